"""`Http11`: HTTP/1.1 on one connection.

What is overridden in hypercorn 0.18, and why:

- HTTP/2 can't be disabled: an upgrade to h2c is answered with 101, and HTTP/2's preface with SETTINGS. Here an
  upgrade other than to WebSocket is ignored (RFC 9110, section 7.8), and other versions than HTTP/1 get 505. HTTP/2
  itself is not served: in hypercorn, a response that waits for the client's flow control when the connection is lost
  waits forever, so that resetting streams fills the memory.
- The limit on the size of a request head is only applied while the head is incomplete.
- Error responses have no body, and leave some connections open.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
import msgspec
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream

from nexus_hypercorn import _vendor_internals
from nexus_hypercorn.websocket import WebSocket

if TYPE_CHECKING:
    from hypercorn.asyncio.task_group import TaskGroup
    from hypercorn.asyncio.tcp_server import TCPServer
    from hypercorn.events import Event


class Http11(H11Protocol):
    """The protocol of one connection.

    Args:
        connection: The connection, for its application, limits and `protocol_send`.
        tasks: The tasks of the connection.
        encrypted: Whether it uses TLS.
        client: The peer's address.
        server: The local address.

    Attributes:
        is_paused: Whether data has been received that has to wait for the end of the current response.
    """

    def __init__(self, connection: TCPServer, tasks: TaskGroup, encrypted: bool, client: Any, server: Any) -> None:
        super().__init__(
            connection.app, connection.config, connection.context, tasks, connection.state,  # type: ignore[arg-type]
            encrypted, client, server, connection.protocol_send,
        )  # fmt: skip
        self.is_paused = False
        self._is_over = False

    async def handle(self, event: Event) -> None:
        """Process received data, or the end of the connection."""
        if isinstance(event, RawData):
            if not self._is_over:
                self.connection.receive_data(event.data)
                await self._handle_events()
        elif isinstance(event, Closed):
            self._is_over = True
            await self._close_stream()

    def keep(self, data: bytes) -> None:
        """Buffer received data."""
        if not self._is_over:
            self.connection.receive_data(data)

    async def proceed(self) -> None:
        """Process the buffered data."""
        self.is_paused = False
        await self._handle_events()

    async def _handle_events(self) -> None:
        while not self._is_over:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(
                    h11.InformationalResponse(status_code=100, headers=self.config.response_headers("h11"))
                )
            if self.connection.their_state is h11.IDLE:
                # Some clients end a body with a superfluous empty line (RFC 9112, section 2.2).
                _vendor_internals.skip_empty_line(self.connection)
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
            else:  # data of a WebSocket
                await self.stream.handle(event)

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
        """Send an error response, unless a response has begun, and end the connection."""
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            detail = f"The request head is larger than {self.config.h11_max_incomplete_size} bytes."
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
        if _vendor_internals.request_method(self.connection) != b"HEAD":  # type: ignore[arg-type]
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def _maybe_recycle(self) -> None:
        """Continue with the next request, or end the connection."""
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
        """End the connection, before the stream: an application that receives no messages must not hold it open."""
        self._is_over = True
        await self.can_read.set()
        await self.send(Closed())
        await self._close_stream()


def _asks_for_websocket(request: h11.Request) -> bool:
    """Return whether a request is a WebSocket handshake. One with a body is not: it would be taken for frames."""
    headers = {name: value.strip().lower() for name, value in request.headers}
    tokens = [token.strip() for token in headers.get(b"connection", b"").split(b",")]
    return (
        request.method == b"GET"
        and headers.get(b"upgrade") == b"websocket"
        and b"upgrade" in tokens
        and headers.get(b"content-length", b"0") == b"0"
        and b"transfer-encoding" not in headers
    )
