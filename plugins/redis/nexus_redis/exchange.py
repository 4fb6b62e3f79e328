"""Send a command and read its reply, on connections that never keep a reply for the next command."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from nexus_core.errors import BackendUnavailable
from nexus_core.text import printable

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio.connection import AbstractConnection

Value = str | bytes | int
Command = tuple[Value, ...]


async def exchange(pool: BlockingConnectionPool, command: Command, otherwise: Command | None = None) -> Any:
    """Send a command on a connection of a pool and return its reply.

    Args:
        pool: The pool.
        command: The command.
        otherwise: The command to send instead if the server does not have the script that the first one names.

    Raises:
        RedisError: No connection, no reply, or an error as reply.
    """
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        try:
            return await _ask(connection, command)
        except NoScriptError:
            if otherwise is None:
                raise
            return await _ask(connection, otherwise)
    except ReadOnlyError:  # the server is a replica now: reconnecting looks up the primary
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


async def _ask(connection: AbstractConnection, command: Command) -> Any:
    try:
        await connection.send_command(*command)
        return await connection.read_response()
    except ResponseError:
        raise  # the reply has been read
    except BaseException:  # a reply that arrives later would be taken for the next command's
        await connection.disconnect(nowait=True)
        raise


class DedicatedConnection:
    """A connection outside of the pool, for the blocking commands of one user. It opens at first use."""

    def __init__(self) -> None:
        self._pool: BlockingConnectionPool | None = None
        self._connection: AbstractConnection | None = None

    async def send(self, pool: BlockingConnectionPool, command: Command) -> Any:
        """Send a command and return its reply. Any error closes the connection.

        Args:
            pool: The pool with the connection's options.
            command: The command.
        """
        if self._connection is None or pool is not self._pool:
            self._pool, self._connection = pool, pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await self._connection.connect()
            return await _ask(self._connection, command)
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise


class WriteProbe:
    """Checks on a connection outside of the pool whether Redis stores values: a read-only server is of no use.

    Args:
        pool: The pool with the connection's options.
        key: Key of the value, which expires after a second.
        timeout: Seconds for connecting and the reply.
    """

    def __init__(self, pool: BlockingConnectionPool, key: str, timeout: float) -> None:
        self._connection = pool.make_connection()  # type: ignore[no-untyped-call]
        self._command = ("SET", key, "1", "PX", 1000, "NX", "GET")  # the store's command that needs Redis 7
        self._timeout = timeout

    async def run(self) -> str | None:
        """Return why Redis is unavailable, or None."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._connection.connect()
                await _ask(self._connection, self._command)
        except TimeoutError:
            reason = too_late(self._timeout)
        except Exception as exc:
            reason = reason_of(exc)
        except BaseException:
            await self.close()
            raise
        else:
            return None
        await self.close()
        return reason

    async def close(self) -> None:
        """Close the connection. `run` opens it again."""
        await self._connection.disconnect(nowait=True)


def too_late(seconds: float) -> str:
    """Return the reason for a missing reply."""
    return f"it did not answer within {seconds:g} s"


def reason_of(exc: Exception) -> str:
    """Return an error's message without the command's arguments, which a server repeats of an unknown command."""
    return printable(str(exc).partition(", with args")[0] or type(exc).__name__, 200)


def unavailable() -> BackendUnavailable:
    """Return the error for callers, who need not know which store it is."""
    return BackendUnavailable("The store of shared state is unavailable.", retry_after=1.0)


def invalid_reply() -> BackendUnavailable:
    """Return the error for a reply that no script of this plugin returns."""
    return BackendUnavailable("The store of shared state sent an invalid reply.")
