"""`DatabasePool`: connections to PostgreSQL, by asyncpg's pool."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from nexus_toolkit.pools import Pool
from nexus_toolkit.redaction import Redactor, option_secrets

from nexus_core.errors import BackendUnavailable
from nexus_core.text import one_line, printable

if TYPE_CHECKING:
    from nexus_pools.settings import PoolsSettings

IDLE_SECONDS = 30.0
"""Interval in which connections beyond ``size`` are closed that were not needed since the last time."""

RESET_SECONDS = 5.0
"""Time limit for resetting the session state of a connection."""

CLOSE_SECONDS = 1.0
"""Time limit for closing connections."""


class DatabasePool(Pool[Any]):
    """Connections to PostgreSQL. Session state (settings, locks, transactions) is reset between users.

    Args:
        address: The URL of PostgreSQL.
        settings: The options.
    """

    def __init__(self, address: str, settings: PoolsSettings) -> None:
        self._url = address
        super().__init__(
            "db_pool",
            lambda: _PostgresBackend(address, self.size, self.limit),
            size=settings.db_pool_size,
            limit=settings.db_pool_max_connections,
            timeout=settings.db_pool_timeout,
        )
        secrets = {secret for each in option_secrets([settings]) for secret in (each, unquote(each)) if secret}
        self._redactor = Redactor(secrets=secrets)
        self._secrets = sorted(secrets, key=len, reverse=True)
        parts = urlsplit(address)
        self.server = printable(f"{parts.netloc.rpartition('@')[2]}{parts.path}") or "the local server"

    def reason(self, exc: Exception) -> str:
        """See `Pool`."""
        return f"PostgreSQL at {self.server}: {self._redactor.text(one_line(exc), self._secrets)}"

    async def check(self) -> dict[str, str]:
        """Check whether PostgreSQL answers, on a new connection: an exhausted pool is no fault of the server.

        Raises:
            BackendUnavailable: PostgreSQL does not answer.
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


class _PostgresBackend:
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
        """See `PoolBackend`."""
        return self._pool.get_idle_size() if self._pool is not None else 0

    async def take(self) -> Any:
        """See `PoolBackend`."""
        pool = self._pool
        if pool is None:
            pool = await self._make()
        connection = await pool.acquire()
        self._in_use += 1
        self._most_in_use = max(self._most_in_use, self._in_use)
        return connection

    async def _make(self) -> Any:
        import asyncpg

        # It opens none in advance and does not wait, so that no other task enters here meanwhile.
        pool = await asyncpg.create_pool(
            self._url, min_size=0, max_size=self._limit, max_inactive_connection_lifetime=0, reset=_reset
        )
        self._pool = pool
        self._trim_later()
        return pool

    async def give_back(self, connection: Any, exc: BaseException | None) -> None:
        """See `PoolBackend`. asyncpg shields this against cancellation."""
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
        """See `PoolBackend`."""
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
        """See `PoolBackend`."""
        if self._pool is not None:
            self._pool.terminate()


async def _reset(connection: Any) -> None:
    """Reset the session state; asyncpg's own query leaves roles and temporary tables."""
    await connection.execute(f"RESET SESSION AUTHORIZATION; RESET ROLE; DISCARD TEMP; {connection.get_reset_query()}")
