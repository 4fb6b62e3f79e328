"""`Port`: accepts the connections of one listener, and closes them."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING

from hypercorn.asyncio.worker_context import WorkerContext

from nexus_hypercorn.connection import Connection

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from hypercorn.config import Config

    from nexus_core.concurrency.rate_limited_log import RateLimitedLog
    from nexus_core.server.channel import ASGIApp

PAUSE_SECONDS = 0.5
"""Seconds without accepting after the system has run out of resources for a connection."""

CLOSING_SECONDS = 1.0
"""Seconds for connections to close by themselves at the end."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Port:
    """The sockets of one listener and their connections.

    asyncio's own server, in CPython 3.11 to 3.13, logs an exception for each of the backlog's connections when file
    descriptors run out. Here it is one line, and the connections wait in the kernel until they can be accepted.

    Args:
        sockets: Listening sockets.
        app: The ASGI application.
        config: Limits and timeouts.
        context: The TLS context; None without TLS.
        handshake_seconds: Seconds that a TLS handshake may take.
        reports: The log for failures.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        app: ASGIApp,
        config: Config,
        context: ssl.SSLContext | None,
        handshake_seconds: float,
        reports: RateLimitedLog,
    ) -> None:
        self._sockets = sockets
        self._app = app
        self._config = config
        self._ssl = context
        self._handshake_seconds = None if context is None else handshake_seconds
        self._reports = reports
        self._state = WorkerContext(None)
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Begin to accept connections."""
        loop = asyncio.get_running_loop()
        self._accepting = [loop.create_task(self._accept(each)) for each in self._sockets]

    async def close(self) -> None:
        """Stop accepting, let connections finish, and abort the others."""
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)
        for each in self._sockets:
            each.close()
        await self._state.terminated.set()
        for connection in list(self._connections):
            connection.close_if_idle()
        if not await self._have_ended():
            for connection in list(self._connections):
                connection.abort()
        if not await self._have_ended():
            for task in list(self._tasks):
                task.cancel()

    async def _have_ended(self) -> bool:
        return not self._tasks or not (await asyncio.wait(self._tasks, timeout=CLOSING_SECONDS))[1]

    async def _accept(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(bound)
            except OSError as exc:
                if exc.errno not in _EXHAUSTED:
                    await asyncio.sleep(0)  # the peer left before the connection was accepted
                    continue
                self._reports.log(
                    logging.ERROR, "accept",
                    "No connection can be accepted: %s. New ones wait. Raise the limit of open files (ulimit -n).",
                    exc.strerror,
                )  # fmt: skip
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            task = loop.create_task(self._serve(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0)  # a flood of connections must not keep others waiting

    async def _serve(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._ssl, ssl_handshake_timeout=self._handshake_seconds
            )
        except OSError:  # the TLS handshake failed, or the peer left
            accepted.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = Connection(self._app, self._config, self._state, reader, writer, self._reports)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
