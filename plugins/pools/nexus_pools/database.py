"""`DatabasePool`: connections to PostgreSQL, by asyncpg's pool."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from nexus_toolkit.pools import Pool
from nexus_toolkit.redaction import Redactor

from nexus_core.errors import BackendUnavailable
from nexus_core.text import one_line, printable

IDLE_SECONDS = 30.0
"""How often connections beyond ``size`` that nobody has needed since are closed."""

RESET_SECONDS = 5.0
"""How long PostgreSQL may take to forget what the last user of a connection has set."""

CLOSE_SECONDS = 1.0
"""How long users and PostgreSQL get at the end."""


def refuse_what_is_no_address(url: str) -> None:
    """Check an address of PostgreSQL. No message repeats a part of it: where its password ends may be unclear.

    Raises:
        ValueError: It is none.
    """
    try:
        parts = urlsplit(url)
        hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
        _ = [host.port for host in hosts]
    except ValueError:
        raise ValueError("has a host or port that is none") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("begins with postgresql:// or postgres://")
    if parts.fragment or url.endswith("#"):
        raise ValueError("has a #, which a password writes as %23")
    if "@" in parts.path + parts.query:
        raise ValueError("has an @ behind its host: a password writes / as %2F, ? as %3F and @ as %40")


class DatabasePool(Pool[Any]):
    """Connections to PostgreSQL. What the last user has set, locked or begun is gone when the next one has it.

    Args:
        url: Where PostgreSQL is.
        secrets: What no message may show: texts in ``url``.
        size: Connections that stay open when they have nothing to do.
        max_connections: Connections at most.
        timeout: Seconds to wait for a connection.
    """

    def __init__(self, url: str, secrets: list[str], *, size: int, max_connections: int, timeout: float) -> None:
        super().__init__(
            "db_pool",
            lambda: _Connections(url, self.size, self.limit),
            size=size,
            limit=max_connections,
            timeout=timeout,
        )
        self._url = url
        self._redactor = Redactor(secrets=secrets)
        self._secrets = sorted((each for each in secrets if each), key=len, reverse=True)
        parts = urlsplit(url)
        self.server = printable(f"{parts.netloc.rpartition('@')[2]}{parts.path}") or "the local server"

    def reason(self, exc: Exception) -> str:
        """See `Pool`."""
        return f"PostgreSQL at {self.server}: {self._redactor.text(one_line(exc), self._secrets)}"

    async def check(self) -> dict[str, str]:
        """Ask PostgreSQL whether it answers, on a connection of its own: that all are in use is no fault of it.

        Raises:
            BackendUnavailable: It does not.
        """
        import asyncpg  # type: ignore[import-untyped]

        try:
            async with asyncio.timeout(self.timeout):
                connection = await asyncpg.connect(self._url)
                try:
                    await connection.execute("SELECT 1")
                    await connection.close()
                finally:
                    connection.terminate()  # does nothing once it is closed
        except Exception as exc:
            raise BackendUnavailable(self.reason(exc)) from None
        return {"server": self.server}


class _Connections:
    """The backend of a `DatabasePool`."""

    def __init__(self, url: str, size: int, limit: int) -> None:
        self._url = url
        self._size = size
        self._limit = limit
        self._pool: Any = None
        self._in_use = self._most_in_use = 0
        self._next_trim: asyncio.TimerHandle | None = None
        self._trimming: asyncio.Task[None] | None = None

    @property
    def idle(self) -> int:
        """See `Backend`."""
        return self._pool.get_idle_size() if self._pool is not None else 0

    async def take(self) -> Any:
        """See `Backend`."""
        pool = self._pool
        if pool is None:
            pool = await self._make()
        connection = await pool.acquire()
        self._in_use += 1
        self._most_in_use = max(self._most_in_use, self._in_use)
        return connection

    async def _make(self) -> Any:
        import asyncpg

        # It opens none in advance, and so does not wait: nobody else comes here meanwhile.
        pool = await asyncpg.create_pool(
            self._url, min_size=0, max_size=self._limit, max_inactive_connection_lifetime=0, reset=_reset
        )
        self._pool = pool
        self._trim_later()
        return pool

    async def give_back(self, connection: Any, exc: BaseException | None) -> None:
        """See `Backend`. The pool it came from is the one that takes it, which goes on when this is cancelled."""
        self._in_use -= 1
        assert self._pool is not None
        await self._pool.release(connection, timeout=RESET_SECONDS)

    def _trim_later(self) -> None:
        self._next_trim = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._start_trim)

    def _start_trim(self) -> None:
        self._trimming = asyncio.get_running_loop().create_task(self._trim(), name="nexus-pools-trim")
        self._trim_later()

    async def _trim(self) -> None:
        """Close connections that were not needed since the last time."""
        assert self._pool is not None
        surplus = self._pool.get_size() - max(self._size, self._most_in_use)
        self._most_in_use = self._in_use
        for _ in range(surplus):
            if not self._pool.get_idle_size():
                return
            with suppress(Exception):  # it may be broken
                async with self._pool.acquire(timeout=CLOSE_SECONDS) as connection:
                    await connection.close(timeout=CLOSE_SECONDS)

    async def close(self) -> None:
        """See `Backend`."""
        if self._next_trim is not None:
            self._next_trim.cancel()
        if self._trimming is not None:
            self._trimming.cancel()
            with suppress(asyncio.CancelledError):
                await self._trimming
        if self._pool is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._pool.close()  # cut short, it drops those that are in use

    def abandon(self) -> None:
        """See `Backend`."""
        if self._pool is not None:
            self._pool.terminate()


async def _reset(connection: Any) -> None:
    """Forget what the last user has set; asyncpg's own query leaves roles and temporary tables as they are."""
    await connection.execute(f"RESET SESSION AUTHORIZATION; RESET ROLE; DISCARD TEMP; {connection.get_reset_query()}")
