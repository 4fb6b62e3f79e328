"""`Connection`: one TCP connection: how it reads and how it ends.

What is overridden in hypercorn 0.18, and why:

- A pipelined request stops hypercorn's reading, so that a disconnect is not noticed. Here a bounded part is read ahead,
  and beyond that the kernel is queried.
- A connection that is closed while the peer sends is reset, and the reset may overtake the response (RFC 9112, section
  9.6). Here it is half closed, and further data is discarded for a moment.
- A failure of a connection or of an application is a traceback in the log. Here it is one line at most.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.events import Closed, RawData, Updated
from hypercorn.utils import parse_socket_addr

from nexus_core.text import printable, shown_path
from nexus_hypercorn.http11 import Http11

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.asyncio.worker_context import WorkerContext
    from hypercorn.config import Config
    from hypercorn.events import Event

    from nexus_core.concurrency.rate_limited_log import RateLimitedLog
    from nexus_core.server.channel import ASGIApp, Message, Scope

LINGER_SECONDS = 5.0
"""Seconds for which data is discarded after the last byte has been sent."""

QUIET_SECONDS = 1.0
"""Seconds without data after which that ends early."""

READ_AHEAD_BYTES = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""

LOOK_SECONDS = 0.5
"""Seconds between queries of the kernel whether the peer has disconnected while nothing is read."""

_LEFT = (7, 8)  # TCP_CLOSE, TCP_CLOSE_WAIT: the first byte of Linux's tcp_info


class Tasks(TaskGroup):
    """The tasks of one connection. An exception of the application is one line in the log."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reports: RateLimitedLog) -> None:
        super().__init__(loop)
        self._reports = reports

    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Callable[[Any], Awaitable[None]]:
        """Start a request's task; see `TaskGroup`."""
        messages: asyncio.Queue[Message] = asyncio.Queue(config.max_app_queue_size)
        self.spawn(self._answer, app, scope, messages.get, send)
        return messages.put

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception as exc:
            path = printable(shown_path(scope["path"]), 200)
            self._reports.failure("application", exc, "The response on %s was aborted", path)
        finally:
            await send(None)


class Connection(TCPServer):
    """One connection.

    Args:
        app: The ASGI application.
        config: Limits and timeouts.
        context: Tells when the server ends.
        reader: The receiving half.
        writer: The sending half.
        reports: The log for failures.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        context: WorkerContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        reports: RateLimitedLog,
    ) -> None:
        super().__init__(app, asyncio.get_running_loop(), config, context, {}, reader, writer)  # type: ignore[arg-type]
        self._reports = reports
        self._timer: asyncio.TimerHandle | None = None
        self._linger_until: float | None = None
        self._is_idle = self._is_ending = False

    async def run(self) -> None:
        """Serve the connection until it ends."""
        ends = self.writer.get_extra_info("socket")
        try:
            client = parse_socket_addr(ends.family, ends.getpeername())
            server = parse_socket_addr(ends.family, ends.getsockname())
            encrypted = self.writer.get_extra_info("ssl_object") is not None
            tasks = Tasks(self.loop, self._reports)
            async with tasks:
                self.protocol = Http11(self, tasks, encrypted, client, server)  # type: ignore[assignment]
                self._set_idle(True)
                await self._read_data()
        except OSError:
            pass
        finally:
            self._stop_timer()
            self.writer.close()
            with suppress(OSError, RuntimeError):
                await self.writer.wait_closed()

    async def protocol_send(self, event: Event) -> None:
        """Carry out an event of the protocol."""
        if isinstance(event, RawData):
            if self.writer.is_closing():  # asyncio would log each write after a connection was lost
                await asyncio.sleep(0)
                return
            async with self.send_lock:
                try:
                    self.writer.write(event.data)
                    await self.writer.drain()
                except (OSError, RuntimeError):  # a peer that takes nothing is a TimeoutError
                    await self.protocol.handle(Closed())
        elif isinstance(event, Closed):
            await self._end()
        elif isinstance(event, Updated):
            self._set_idle(event.idle)

    async def _read_data(self) -> None:
        protocol: Http11 = self.protocol  # type: ignore[assignment]
        while data := await self._receive():
            if self._is_ending:
                self._linger()
                continue
            await protocol.handle(RawData(data))
            while protocol.is_paused:
                if not await self._read_ahead(protocol):
                    await protocol.handle(Closed())
                    return
                await protocol.proceed()
        await protocol.handle(Closed())

    async def _receive(self) -> bytes:
        try:
            return await self.reader.read(MAX_RECV)
        except OSError:  # SSLError is one
            return b""

    async def _read_ahead(self, protocol: Http11) -> bool:
        """Wait for the end of the current response; return False if the peer disconnects before."""
        turn = self.loop.create_task(protocol.can_read.wait())
        size = 0
        try:
            while not turn.done():
                wait = self._receive() if size < READ_AHEAD_BYTES else self._has_left()
                reading = self.loop.create_task(wait)
                try:
                    await asyncio.wait({turn, reading}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    reading.cancel()
                    await asyncio.wait({reading})
                if not reading.cancelled():
                    data = reading.result()
                    if not data:
                        return False
                    size += len(data)
                    protocol.keep(data)
        finally:
            turn.cancel()
        return True

    async def _has_left(self) -> bytes:
        """Return once the peer has disconnected, which the kernel knows (Linux) though there is more to read."""
        ends = self.writer.get_extra_info("socket")
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.writer.is_closing():
                return b""
            with suppress(AttributeError, OSError):
                if ends.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _LEFT:
                    return b""

    def _set_idle(self, is_idle: bool) -> None:
        self._stop_timer()
        self._is_idle = is_idle
        if is_idle:
            self._timer = self.loop.call_later(self.config.keep_alive_timeout, self.writer.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _end(self) -> None:
        """Flush and half close; close when the peer has closed, or `LINGER_SECONDS` have passed."""
        if self._is_ending:
            return
        self._is_ending = True
        transport = self.writer.transport
        if not transport.can_write_eof():  # TLS has a closing handshake
            self.writer.close()
            return
        with suppress(OSError, RuntimeError):
            transport.set_write_buffer_limits(0)
            await self.writer.drain()
            transport.write_eof()
        self._linger_until = self.loop.time() + LINGER_SECONDS
        self._linger()

    def _linger(self) -> None:
        self._stop_timer()
        if self._linger_until is not None:
            seconds = min(QUIET_SECONDS, self._linger_until - self.loop.time())
            self._timer = self.loop.call_later(seconds, self.abort)

    def close_if_idle(self) -> None:
        """Close the connection if it has no request."""
        if self._is_idle:
            self.writer.close()

    def abort(self) -> None:
        """Abort the connection at once."""
        self.writer.transport.abort()
