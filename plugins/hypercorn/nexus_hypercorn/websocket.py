"""`WebSocket`: one WebSocket, with messages bounded while they are assembled.

What is overridden in hypercorn 0.18 and wsproto 1, and why: compressed messages are decompressed without a limit; after
a message that is too large, frames are still read and the connection stays open; a rejected handshake leaves the
connection open; the task that sends pings stays when the WebSocket has closed; a ping between two compressed fragments
corrupts the message; invalid frames are not answered with a close code.
"""

from __future__ import annotations

import zlib
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

from hypercorn.protocol.events import Body, Data, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, RsvBits
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import generate_accept_token

from nexus_hypercorn import _vendor_internals

if TYPE_CHECKING:
    import asyncio

    from hypercorn.protocol.events import Event
    from wsproto.frame_protocol import FrameDecoder, FrameProtocol, Opcode

WINDOW_BITS = 12
"""Window of the compressor: 32 KiB of memory for each connection instead of 256 KiB."""

MEMORY_LEVEL = 5


class WebSocket(WSStream):
    """One WebSocket; see `WSStream`."""

    _pings: asyncio.Task[None] | None = None
    _message: _Message | None = None

    async def handle(self, event: Event) -> None:
        """Process a received event."""
        if self.closed:
            return
        if isinstance(event, (Body, Data)) and not self.handshake.accepted:
            self.state = ASGIWebsocketState.HTTPCLOSED
            await self._send_error_response(400)
            await self.send(StreamClosed(stream_id=self.stream_id))
            return
        if isinstance(event, StreamClosed) and self._pings is not None:
            self._pings.cancel()
        await super().handle(event)
        if isinstance(event, Request) and self.app_put is None:  # not a valid handshake, and answered
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def app_send(self, message: Any) -> None:
        """Send a message of the application. Once it has closed, nothing more is read."""
        closes = message is not None and message["type"] == "websocket.close" and not self.closed
        await super().app_send(message)
        if closes and self.state is ASGIWebsocketState.CLOSED:
            # In another task: this is the application's, and its queue may be full.
            self.task_group.spawn(self.send, StreamClosed(stream_id=self.stream_id))

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                if self._message is None:
                    self._message = _Message(self.config.websocket_max_message_size, isinstance(event, TextMessage))
                if not self._message.add(event.data):
                    await self._fail(CloseReason.MESSAGE_TOO_BIG)
                    return
                if event.message_finished:
                    complete, self._message = self._message, None
                    await self.app_put(complete.as_received())  # type: ignore[misc]
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.OPEN:  # invalid frames
                    await self._fail(event.code)
                    return
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                await self.send(StreamClosed(stream_id=self.stream_id))
                return

    async def _fail(self, code: int) -> None:
        """Close with a code, read nothing more, and end the connection (RFC 6455, section 7.1.7)."""
        self._message = None
        await self._send_wsproto_event(CloseConnection(code=code))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _accept(self, message: Any) -> None:
        self.state = ASGIWebsocketState.CONNECTED
        headers, self.connection = self._agree(message.get("subprotocol"), message.get("headers", []))
        await self.send(Response(stream_id=self.stream_id, status_code=101, headers=headers))
        interval = self.config.websocket_ping_interval
        if interval is not None and not self.closed:
            group = _vendor_internals.task_group_of(self.task_group)  # type: ignore[arg-type]
            self._pings = group.create_task(self._send_pings())

    def _agree(self, subprotocol: str | None, added: Any) -> tuple[list[tuple[bytes, bytes]], Connection]:
        """Return the headers that accept the handshake, and the codec of frames."""
        handshake = self.handshake
        headers = [(b"upgrade", b"WebSocket"), (b"connection", b"Upgrade")]
        if subprotocol is not None:
            headers.append((b"sec-websocket-protocol", subprotocol.encode()))
        deflate = BoundedDeflate(self.config.websocket_max_message_size)
        if handshake.extensions and (accepts := server_extensions_handshake(handshake.extensions, [deflate])):
            headers.append((b"sec-websocket-extensions", accepts))
        assert handshake.key is not None  # the handshake is valid
        headers += [(b"sec-websocket-accept", generate_accept_token(handshake.key)), *added]
        handshake.accepted = True
        return headers, Connection(ConnectionType.SERVER, [deflate])


class _Message:
    """A partly received message. Many small parts take no more memory than their text."""

    __slots__ = ("_left", "_value")

    def __init__(self, limit: int, is_text: bool) -> None:
        self._left = limit
        self._value: StringIO | BytesIO = StringIO() if is_text else BytesIO()

    def add(self, data: Any) -> bool:
        """Add a part; return False, without adding it, if the message becomes too large."""
        is_plain = isinstance(data, (bytes, bytearray)) or data.isascii()
        self._left -= len(data) if is_plain else len(data.encode("utf-8", "surrogatepass"))
        if self._left < 0:
            return False
        self._value.write(data)
        return True

    def as_received(self) -> dict[str, Any]:
        value = self._value.getvalue()
        is_text = isinstance(value, str)
        return {"type": "websocket.receive", "bytes": None if is_text else value, "text": value if is_text else None}


class BoundedDeflate(PerMessageDeflate):
    """permessage-deflate (RFC 7692) that stops decompressing once a message exceeds the limit.

    Args:
        limit: Largest message in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = self._room = limit

    def accept(self, offer: str) -> bool | str | None:
        """Return the accepted parameters, or None: an invalid offer is declined."""
        try:
            return super().accept(offer)
        except ValueError:
            return None

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Process the header of a frame. Control frames do not belong to the message that they interrupt."""
        if opcode.iscontrol():
            self._inbound_is_compressible = False
            return CloseReason.PROTOCOL_ERROR if rsv.rsv1 else RsvBits(True, False, False)
        if self._inbound_compressed is None:
            self._room = self._limit
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Return a part of a frame decompressed, or the reason why that fails."""
        if not self._inbound_compressed or not self._inbound_is_compressible:
            return data
        return self._inflate(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """Return the rest of a message after its last frame."""
        if not self._inbound_is_compressible or not fin:
            return None
        is_compressed, self._inbound_compressed = self._inbound_compressed, None
        if not is_compressed:
            return None
        found = self._inflate(b"\0\0\xff\xff")
        if self.client_no_context_takeover:
            self._decompressor = None
        return found

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        decompressor = self._decompressor
        assert decompressor is not None
        try:
            found = decompressor.decompress(data, self._room + 1)
            if decompressor.eof:  # a final block (section 7.2.3.5): one more may follow
                self._decompressor = zlib.decompressobj(-self.client_max_window_bits)
                room = self._room + 1 - len(found)
                if room > 0 and decompressor.unused_data:
                    found += self._decompressor.decompress(decompressor.unused_data, room)
                    if self._decompressor.eof:
                        return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._room -= len(found)
        return found if self._room >= 0 else CloseReason.MESSAGE_TOO_BIG

    def frame_outbound(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool
    ) -> tuple[RsvBits, bytes]:
        """Compress a frame."""
        if self._compressor is None and self._compressible_opcode(opcode):
            bits = min(WINDOW_BITS, self.server_max_window_bits)
            self._compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -bits, MEMORY_LEVEL)
        return super().frame_outbound(proto, opcode, rsv, data, fin)
