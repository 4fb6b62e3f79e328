"""`Connection`: one TCP connection that speaks HTTP/1.1, built of hypercorn's parts where those fit.

What is replaced in hypercorn 0.18, and why:

- HTTP/2 can't be switched off: an upgrade to h2c is answered with 101, and HTTP/2's preface with SETTINGS. Here an
  upgrade other than to WebSocket is ignored (RFC 9110, section 7.8), and other versions than HTTP/1 get 505. HTTP/2
  itself is not served: in hypercorn, an answer that still waits for the client's flow control when its connection goes
  waits for ever, so that resetting streams fills the memory.
- A request that comes before the answer to the one before it stops hypercorn's reading: that the caller leaves is not
  noticed. Here a bounded part is read ahead, and the kernel is asked when there is more.
- The limit on the size of a request's head counts only while the head is incomplete.
- A connection that is closed while the other side sends is reset, and the reset may overtake the answer (RFC 9112,
  section 9.6). Here it is half closed, and what still comes is thrown away for a moment.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
import msgspec
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.utils import parse_socket_addr

from nexus_core.redaction import shown_path
from nexus_core.schema.report import printable
from nexus_hypercorn.websocket import WebSocket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.asyncio.worker_context import WorkerContext
    from hypercorn.config import Config
    from hypercorn.events import Event

    from nexus_core.channel import ASGIApp, Message, Scope
    from nexus_core.rate_limited_log import RateLimitedLog

LINGER_SECONDS = 5.0
"""How long what still comes is taken and thrown away after the last byte has been sent."""

QUIET_SECONDS = 1.0
"""How long nothing may come meanwhile."""

READ_AHEAD_BYTES = 64 * 1024
"""What is read of the next requests while one is being answered."""

LOOK_SECONDS = 0.5
"""How often the kernel is asked whether the other side has left while nothing is read."""

_LEFT = (7, 8)  # TCP_CLOSE, TCP_CLOSE_WAIT: the first byte of Linux's tcp_info


class Tasks(TaskGroup):
    """The tasks of one connection. What an application raises costs one line of the log."""

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
            self._reports.failure("application", exc, "An answer on %s was broken off", path)
        finally:
            await send(None)


class Connection(TCPServer):
    """One connection.

    Args:
        app: Answers its requests.
        config: Limits and times.
        context: Says when the server ends.
        reader: What comes.
        writer: What goes.
        reports: Where failures are logged.
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
        """Do what the protocol asks for."""
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
        """Wait until the answer that is under way has ended; return False when the other side leaves before."""
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
        """Return once the other side has left, which the kernel knows (Linux) though there is more to read."""
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
        """Send what is left, then nothing more; close when the other side has, or has had its time."""
        if self._is_ending:
            return
        self._is_ending = True
        transport = self.writer.transport
        if not transport.can_write_eof():  # TLS has a farewell of its own
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
        """Close it if no request is under way."""
        if self._is_idle:
            self.writer.close()

    def abort(self) -> None:
        """Cut it, whatever is under way."""
        self.writer.transport.abort()


class Http11(H11Protocol):
    """What is said on one connection.

    Attributes:
        is_paused: Whether something has come that has to wait for the answer that is under way.
    """

    def __init__(self, connection: Connection, tasks: Tasks, encrypted: bool, client: Any, server: Any) -> None:
        super().__init__(
            connection.app, connection.config, connection.context, tasks, connection.state,  # type: ignore[arg-type]
            encrypted, client, server, connection.protocol_send,
        )  # fmt: skip
        self.is_paused = False
        self._is_over = False

    async def handle(self, event: Event) -> None:
        """Take what has come, or that nothing more will."""
        if isinstance(event, RawData):
            if not self._is_over:
                self.connection.receive_data(event.data)
                await self._handle_events()
        elif isinstance(event, Closed):
            self._is_over = True
            await self._close_stream()

    def keep(self, data: bytes) -> None:
        """Keep what has come for later."""
        if not self._is_over:
            self.connection.receive_data(data)

    async def proceed(self) -> None:
        """Go on with what was kept."""
        self.is_paused = False
        await self._handle_events()

    async def _handle_events(self) -> None:
        while not self._is_over:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(
                    h11.InformationalResponse(status_code=100, headers=self.config.response_headers("h11"))
                )
            if self.connection.their_state is h11.IDLE:
                self._skip_empty_line()
            try:
                event: Any = self.connection.next_event()
            except h11.RemoteProtocolError as exc:
                await self._refuse(exc.error_status_hint, "The request can't be read as HTTP/1.1.")
                return
            if isinstance(event, h11.Request):
                await self.send(Updated(idle=False))
                await self._begin(event)
            elif event is h11.PAUSED:
                await self.can_read.clear()
                self.is_paused = True
                return
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed) or self.stream is None:
                return
            elif isinstance(event, h11.Data):
                await self.stream.handle(Body(stream_id=STREAM_ID, data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self.stream.handle(EndBody(stream_id=STREAM_ID))
            else:  # what came on a WebSocket
                await self.stream.handle(event)

    def _skip_empty_line(self) -> None:
        """Some clients end a body with an empty line that belongs to nothing (RFC 9112, section 2.2)."""
        waiting = self.connection._receive_buffer  # type: ignore[union-attr]
        if waiting._data[:2] == b"\r\n":
            waiting.maybe_extract_at_most(2)

    async def _begin(self, request: h11.Request) -> None:
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
        if size > self.config.h11_max_incomplete_size:
            await self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "")
        elif request.http_version[:2] != b"1.":
            await self._refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "This port speaks HTTP/1.1.")
        else:
            await self._create_stream(request)

    async def _create_stream(self, request: h11.Request) -> None:
        version = "1.0" if request.http_version == b"1.0" else "1.1"
        kind: type[HTTPStream | WebSocket] = HTTPStream
        if version == "1.1" and _asks_for_websocket(request):
            kind = WebSocket
            self.connection = H11WSConnection(self.connection)  # type: ignore[arg-type]
        self.stream = kind(
            self.app, self.config, self.context, self.task_group, self.ssl, self.client, self.server, self.stream_send,
            STREAM_ID,
        )  # fmt: skip
        self.keep_alive_requests += 1
        received = Request(
            stream_id=STREAM_ID,
            headers=list(request.headers),
            http_version=version,
            method=request.method.decode("ascii").upper(),
            raw_path=request.target,
            state=self.connection_state,
        )
        try:
            await self.stream.handle(received)
        except UnicodeDecodeError:
            self.stream = None
            await self._refuse(400, "A header of the WebSocket handshake is not ASCII.")

    async def _refuse(self, status: int, detail: str) -> None:
        """Answer what can't be read, if nothing has been answered yet, and end the connection."""
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            detail = f"The request's head is larger than {self.config.h11_max_incomplete_size} bytes."
        if isinstance(self.connection, H11WSConnection):
            self.connection = self.connection.h11_connection
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status, detail)
        await self._finish()

    async def _send_error_response(self, status_code: int, detail: str = "") -> None:
        problem = {"type": "about:blank", "title": HTTPStatus(status_code).phrase, "status": status_code}
        body = msgspec.json.encode(problem | {"detail": detail})
        headers = [
            (b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"), *self.config.response_headers("h11"),
        ]  # fmt: skip
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        if self.connection._request_method != b"HEAD":  # type: ignore[union-attr]
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def _maybe_recycle(self) -> None:
        """Go on with the next request, or end the connection."""
        connection = self.connection
        both = {connection.our_state, connection.their_state}
        if both != {h11.DONE} or self.context.terminated.is_set() or self._is_over:
            await self._finish()
            return
        await self._close_stream()
        connection.start_next_cycle()
        await self.can_read.set()
        await self.send(Updated(idle=True))

    async def _finish(self) -> None:
        """End the connection first: an application that takes no messages must not hold it."""
        self._is_over = True
        await self.can_read.set()
        await self.send(Closed())
        await self._close_stream()


def _asks_for_websocket(request: h11.Request) -> bool:
    """Whether a request asks for a WebSocket. One with a body does not: what follows it would count as frames."""
    headers = {name: value.strip().lower() for name, value in request.headers}
    tokens = [token.strip() for token in headers.get(b"connection", b"").split(b",")]
    return (
        request.method == b"GET"
        and headers.get(b"upgrade") == b"websocket"
        and b"upgrade" in tokens
        and headers.get(b"content-length", b"0") == b"0"
        and b"transfer-encoding" not in headers
    )
