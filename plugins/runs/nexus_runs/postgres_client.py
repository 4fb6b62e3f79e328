"""`PostgresClient`: connections to PostgreSQL, and what its failures mean."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.errors import BackendUnavailable
from nexus_core.text import one_line, printable
from nexus_runs.change_queue import unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
"""Seconds between two log lines with the same reason."""

CLOSE_SECONDS = 1.0
"""Time limit for closing connections."""

VALUE_ERRORS = ("22", "23")
"""Classes of errors that are the value's fault: a repeat fails too."""

ATTEMPTS = 5
"""How often a step is done that broken connections, or steps of other processes, keep from succeeding."""

BROKEN = ("08", "57P")
"""Classes of errors after which another connection may work at once."""

SETTINGS = {"application_name": "nexus-runs", "random_page_cost": "1.1"}
"""Settings of connections. A listing shows a few rows, in the order of an index that has all that it is filtered by.

With the default cost of a page, PostgreSQL may prefer another one, whose rows lie closer together, and reads on and on
where few of them fit.
"""


class Repeat(Exception):
    """Raised by a step that is to be done again, from its beginning."""


class PostgresClient:
    """A bounded pool of connections whose search path is one schema.

    Args:
        url: The URL of PostgreSQL.
        schema: The schema.
        connections: Maximum number of connections.
        timeout: Seconds for a statement, and for a connection.

    Attributes:
        server: Host, port and database, for logs.
    """

    def __init__(self, url: str, schema: str, connections: int, timeout: float) -> None:
        self.timeout = timeout
        self.schema = schema
        self._url = url
        self._connections = connections
        self._pool: Any = None
        parts = urlsplit(url)
        self.server = printable(f"{parts.netloc.rpartition('@')[2]}{parts.path}") or "the local server"
        self._password = unquote(parts.password or "")
        self._failures = RateLimitedLog(log, QUIET_SECONDS)

    async def open(self) -> None:
        """Make the pool. It opens no connection."""
        import asyncpg  # type: ignore[import-untyped]

        self._pool = await asyncpg.create_pool(
            self._url, min_size=0, max_size=self._connections, max_inactive_connection_lifetime=60.0,
            command_timeout=self.timeout, timeout=self.timeout, server_settings=self._settings,
        )  # fmt: skip

    @property
    def _settings(self) -> dict[str, str]:
        return {"search_path": self.schema} | SETTINGS

    async def connect(self) -> Any:
        """Return a connection outside of the pool."""
        import asyncpg

        return await asyncpg.connect(
            self._url, timeout=self.timeout, command_timeout=self.timeout, server_settings=self._settings
        )

    async def close(self) -> None:
        """Close every connection."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await pool.close()
            except Exception:
                pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Return a connection of the pool. After any error it is closed: no transaction and no reply is left in it."""
        if self._pool is None:
            raise unavailable()
        connection = await self._pool.acquire(timeout=self.timeout)
        try:
            yield connection
        except BaseException:
            connection.terminate()
            raise
        finally:
            with suppress(Exception):
                await self._pool.release(connection, timeout=CLOSE_SECONDS)

    async def run(self, step: Any, *arguments: Any, seconds: float | None = None, for_operators: bool = False) -> Any:
        """Call an async function with a connection and arguments, again on another one if the first is broken.

        A step may be done several times.

        Args:
            step: The function.
            *arguments: Its arguments.
            seconds: Time limit, where it is not that of a statement.
            for_operators: Whether the error says why.

        Raises:
            BackendUnavailable: PostgreSQL does not answer, or refuses.
        """
        try:
            async with asyncio.timeout(seconds or 2 * self.timeout):
                return await self._attempts(step, arguments)
        except BackendUnavailable:
            raise
        except Exception as exc:
            if is_value_error(exc):  # its text repeats the value, which may be a secret
                raise ValueError(f"PostgreSQL can't take a value: {type(exc).__name__}") from None
            reason = self.reason(exc)
            if for_operators:
                raise BackendUnavailable(reason) from None
            self.log_failure(reason)
            raise unavailable() from None

    async def _attempts(self, step: Any, arguments: tuple[Any, ...]) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.connection() as connection:
                    return await step(connection, *arguments)
            except Exception as exc:
                if attempt == ATTEMPTS or not (isinstance(exc, Repeat) or is_broken(exc)):
                    raise
        raise AssertionError  # the last attempt returns or raises

    def reason(self, exc: Exception) -> str:
        """Return what an error says, without the password."""
        text = one_line(exc) if str(exc) else f"it did not answer within {self.timeout:g} s"
        if self._password:
            text = text.replace(self._password, "***")
        return f"PostgreSQL at {self.server}: {printable(text, 300)}"

    def log_failure(self, reason: str) -> None:
        """Log a failure, the same one once a minute."""
        self._failures.log(logging.ERROR, reason, "The run store postgres can't be used: %s", reason)


class Rescuer:
    """One connection for a thread without an event loop.

    Args:
        client: Knows where to.
    """

    def __init__(self, client: PostgresClient) -> None:
        self._client = client
        self._runner = asyncio.Runner()
        self._connection: Any = None

    def run(self, step: Any, *arguments: Any) -> None:
        """Call an async function with the connection and arguments.

        Raises:
            Exception: PostgreSQL does not answer, or refuses; `close` it then.
        """
        self._runner.run(self._run(step, arguments))

    async def _run(self, step: Any, arguments: tuple[Any, ...]) -> None:
        if self._connection is None:
            self._connection = await self._client.connect()
        await step(self._connection, *arguments)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.terminate()
        self._runner.close()


def is_value_error(exc: Exception) -> bool:
    """Whether PostgreSQL, or asyncpg, can't take a value."""
    code = getattr(exc, "sqlstate", None)
    return isinstance(exc, OverflowError | UnicodeError) or (code is not None and code.startswith(VALUE_ERRORS))


def is_broken(exc: Exception) -> bool:
    """Whether it was the connection that failed, so that another one may work."""
    code = getattr(exc, "sqlstate", None)
    if code is not None:
        return str(code).startswith((*BROKEN, "40"))
    return isinstance(exc, ConnectionError) or type(exc).__name__ == "InterfaceError"
