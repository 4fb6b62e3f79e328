"""Frames that no client would send: each connection ends with an answer that can be read, and nothing stays."""

from __future__ import annotations

import asyncio
import logging
import struct
import zlib
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nexus_hypercorn.plugin import HypercornPlugin
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection
from wsproto.extensions import PerMessageDeflate

from nexus_core import Channel, Nexus, hookimpl
from nexus_core.testing import eventually

LIMIT = 20_000


def deflated(data):
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def length_of(size, form):
    """A frame's length, in the shortest form, in one that is longer than need be, or with another number."""
    if form == "huge":
        return bytes([0x80 | 127]) + struct.pack(">Q", 2**63 + size)
    if form == "long" or size > 65535:
        return bytes([0x80 | 127]) + struct.pack(">Q", size)
    if form == "medium" or size > 125:
        return bytes([0x80 | 126]) + struct.pack(">H", size)
    return bytes([0x80 | size])


@st.composite
def frames(draw):
    payload = draw(
        st.one_of(
            st.binary(max_size=300),
            st.text(max_size=100).map(str.encode),
            st.integers(0, 60_000).map(lambda size: deflated(b"x" * size)),
            st.integers(0, 2 * LIMIT).map(lambda size: b"y" * size),
            st.integers(0, 5000).map(lambda code: struct.pack(">H", code)),
        )
    )
    opcode = draw(st.sampled_from([0, 0, 1, 1, 1, 2, 2, 8, 9, 10]) | st.integers(0, 15))
    first = (
        draw(st.sampled_from([0x80, 0x80, 0x00, 0xC0, 0x40]) | st.integers(0, 15).map(lambda bits: bits << 4)) | opcode
    )
    length = length_of(len(payload), draw(st.sampled_from(["short"] * 6 + ["medium", "long", "huge"])))
    if draw(st.integers(0, 9)) == 0:  # no mask
        return bytes([first, length[0] & 0x7F]) + length[1:] + payload
    return bytes([first]) + length + bytes(4) + payload


@st.composite
def connections(draw):
    """What one client sends: whether it offers compression, and the frames, cut anywhere."""
    sent = b"".join(draw(st.lists(frames(), max_size=6)))
    cuts = sorted(draw(st.lists(st.integers(0, len(sent)), max_size=3)))
    parts = [sent[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    return draw(st.booleans()), [part for part in parts if part]


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


async def exchange(port, compresses, parts):
    """Send what there is, then leave politely; return what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if compresses else b""
    try:
        async with asyncio.timeout(30):
            writer.write(HANDSHAKE + offer + b"\r\n")
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0)
            writer.write_eof()
            return await reader.read()
    except ConnectionError:
        return b""  # cut, since something was still on its way when the server had closed
    finally:
        writer.close()


def check_readable(received, compresses):
    deflate = PerMessageDeflate()
    if compresses:
        deflate.finalize("permessage-deflate")
    client = Connection(ConnectionType.CLIENT, [deflate])
    client.receive_data(received)
    for event in client.events():
        if isinstance(event, CloseConnection):
            assert event.code in (1000, 1001, 1002, 1005, 1007, 1009) or 3000 <= event.code < 5000, event
            assert "Reserved" not in (event.reason or "")


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.getMessage()} {record.exc_info or ''}")


class Echo(Channel):
    name, port = "echo", 0

    def asgi_app(self):
        return self._answer

    async def _answer(self, scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"], "bytes": message["bytes"]})


@asynccontextmanager
async def served():
    plugin = ModuleType("echo_plugin")
    plugin.nexus_register_channels = hookimpl(lambda: [Echo()])
    options = {"websocket_max_message_bytes": LIMIT, "shutdown_grace": 0.2, "drain_seconds": 0.05}
    async with Nexus(discover=False, plugins=[plugin, HypercornPlugin], **options).serving() as listeners:
        yield int(listeners[0].url.rpartition(":")[2])


@contextmanager
def serving():
    """Serve on an event loop that turns while an example runs."""
    with asyncio.Runner() as runner:
        platform = served()
        port = runner.run(platform.__aenter__())
        yield runner, port
        runner.run(platform.__aexit__(None, None, None))


def none_left():
    ends = ("Port._serve", "Tasks._answer", "_send_pings", "_discard")
    return not any(getattr(task.get_coro(), "__qualname__", "").endswith(ends) for task in asyncio.all_tasks())


def test_websocket_frames():
    lines = Lines()
    logging.getLogger().addHandler(lines)
    try:
        with serving() as (runner, port):

            async def all_at_once(batch):
                received = await asyncio.gather(*(exchange(port, *each) for each in batch))
                for (compresses, _), each in zip(batch, received, strict=True):
                    check_readable(each, compresses)
                await eventually(none_left, 20)

            @settings(max_examples=25, suppress_health_check=list(HealthCheck))
            @given(st.lists(connections(), min_size=1, max_size=12))
            def attack(batch):
                runner.run(all_at_once(batch))

            attack()
        assert lines.lines == []
    finally:
        logging.getLogger().removeHandler(lines)
