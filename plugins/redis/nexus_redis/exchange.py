"""A command and its reply, on a connection that never keeps a reply for the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

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
        otherwise: The one to send where the server does not have the script that the first one names.

    Raises:
        RedisError: There is no connection, no reply, or it is an error.
    """
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        try:
            return await _ask(connection, command)
        except NoScriptError:
            if otherwise is None:
                raise
            return await _ask(connection, otherwise)
    except ReadOnlyError:  # it was the one to write to; which is it now is looked up when connecting
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


async def _ask(connection: AbstractConnection, command: Command) -> Any:
    try:
        await connection.send_command(*command)
        return await connection.read_response()
    except ResponseError:
        raise  # a reply like any other
    except BaseException:  # a reply that may still come would be taken for the next command's
        await connection.disconnect(nowait=True)
        raise


class Line:
    """A connection for one who asks long questions, one after the other. It is opened when it is first used."""

    def __init__(self) -> None:
        self._pool: BlockingConnectionPool | None = None
        self._connection: AbstractConnection | None = None

    async def ask(self, pool: BlockingConnectionPool, command: Command) -> Any:
        """Send a command and return its reply. Whatever goes wrong closes the connection.

        Args:
            pool: Whose connections are like this one.
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


class Probe:
    """Asks Redis to store something, on a connection of its own: a server that only reads is of no use.

    Args:
        pool: Whose connections are tried.
        key: Where it is stored, for a second.
        timeout: Seconds for the answer.
    """

    def __init__(self, pool: BlockingConnectionPool, key: str, timeout: float) -> None:
        self._connection = pool.make_connection()  # type: ignore[no-untyped-call]
        self._command = ("SET", key, "1", "PX", 1000, "NX", "GET")  # as the store does, which needs Redis 7
        self._timeout = timeout

    async def run(self) -> str | None:
        """Return why Redis is not available, or None."""
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
        """Close the connection; `run` opens it again."""
        await self._connection.disconnect(nowait=True)


def too_late(seconds: float) -> str:
    """Return the reason where there is no answer."""
    return f"it did not answer within {seconds:g} s"


def reason_of(exc: Exception) -> str:
    """Return what went wrong. A server that does not know a command repeats its arguments: they stay out of it."""
    return printable(str(exc).partition(", with args")[0] or type(exc).__name__, 200)
