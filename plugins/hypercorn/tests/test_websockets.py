"""WebSockets that end in every way there is."""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
import zlib

import pytest
import websockets
from nexus_hypercorn.websocket import BoundedDeflate
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

HANDSHAKE = (
    b"GET /%b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT = b"\x81\x85\0\0\0\0hello"


def address(url, path="/"):
    return url.replace("http", "ws") + path


async def test_echo_and_close(serve, no_connection_left):
    async with websockets.connect(address(await serve())) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
    await no_connection_left()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_vanishing_holds_nothing(serve, raw, small, no_connection_left, how):
    url = await serve()
    connections = [raw(url) for _ in range(100)]
    for connection in connections:
        await connection.send(HANDSHAKE % b"")
        assert b" 101 " in await connection.read(b"\r\n\r\n")
    for connection in connections:
        getattr(connection, how)()
    await no_connection_left()  # hypercorn's pings would hold each for an interval of 20 s


async def test_an_application_that_ends_while_messages_wait(serve, raw, no_connection_left):
    connection = raw(await serve())
    await connection.send(HANDSHAKE % b"ends")
    await connection.read(b"\r\n\r\n")
    try:
        await connection.send(TEXT * 1000)
    except ConnectionError:
        pass
    connection.close()
    await no_connection_left()


async def test_messages_that_nobody_takes_do_not_stop_the_server(serve, raw):
    """The application is deaf and hypercorn's queue full: `serve` must still be able to stop (see its fixture)."""
    connection = raw(await serve())
    await connection.send(HANDSHAKE % b"deaf")
    assert b" 101 " in await connection.read(b"\r\n\r\n")
    await connection.send(TEXT * 1000)
    connection.close()


async def test_pings_are_sent(serve, raw):
    connection = raw(await serve(websocket_ping_interval=0.1))
    await connection.send(HANDSHAKE % b"")
    assert b"\x89\x00" in await connection.read(b"\x89\x00\x89\x00", seconds=3)


async def test_message_size(serve):
    async with websockets.connect(address(await serve(websocket_max_message_bytes=100))) as socket:
        await socket.send("x" * 100)
        assert await socket.recv() == "x" * 100
        await socket.send("x" * 101)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 5)
        assert closed.value.rcvd.code == 1009


COMPRESSED = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"


def frame(data, opcode=1, fin=True, compressed=False):
    """A masked frame; the mask of zeros leaves the data as it is."""
    first = 0x80 * fin | 0x40 * compressed | opcode
    if len(data) < 126:
        size = bytes([0x80 | len(data)])
    elif len(data) < 65536:
        size = bytes([0x80 | 126]) + struct.pack(">H", len(data))
    else:
        size = bytes([0x80 | 127]) + struct.pack(">Q", len(data))
    return bytes([first]) + size + bytes(4) + data


def deflated(data, end=zlib.Z_SYNC_FLUSH):
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    found = compressor.compress(data) + compressor.flush(end)
    return found[:-4] if end == zlib.Z_SYNC_FLUSH else found + b"\0"


def close_code(received):
    """The code in a close frame that ends what was received."""
    frames = received.partition(b"\r\n\r\n")[2]
    at = frames.index(b"\x88")
    return struct.unpack(">H", frames[at + 2 : at + 4])[0]


BOMB = deflated(bytes(200_000_000))  # 200 KB


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(frame(BOMB, compressed=True), id="one frame"),
        pytest.param(frame(BOMB[:1000], fin=False, compressed=True) + frame(BOMB[1000:], 0), id="two frames"),
        pytest.param(frame(deflated(b"x" * 1_000_001), compressed=True), id="a byte too much"),
        pytest.param(frame(b"x" * 1_000_001), id="not compressed"),
        pytest.param(frame(b"x" * 1000, fin=False) + frame(b"x" * 999, 0, fin=False) * 1010, id="fragments"),
        pytest.param(frame("\u20ac".encode() * 350_000), id="bytes, not characters"),
        pytest.param(b"\x81\xff" + struct.pack(">Q", 2**62) + bytes(4) + b"x" * 2_000_000, id="endless"),
    ],
)
async def test_messages_that_are_too_large_end_the_connection(serve, raw, no_connection_left, sent):
    connection = raw(await serve(websocket_max_message_bytes=1_000_000))
    await connection.ask(COMPRESSED % b"", b"\r\n\r\n")
    sending = asyncio.create_task(connection.send(sent + TEXT * 1000))
    received = await connection.read(seconds=10)  # to its end: the server closes the connection
    await asyncio.wait({sending})
    assert close_code(received) == 1009
    assert b"hello" not in received
    await no_connection_left()


async def test_what_comes_after_the_end_is_not_kept(serve, raw, small, no_connection_left):
    """The other side neither reads the reason nor closes: it goes on sending."""
    connection = raw(await serve(websocket_max_message_bytes=1000))
    await connection.ask(HANDSHAKE % b"", b"\r\n\r\n")
    await connection.send(frame(b"x" * 2000))

    async def send_on():
        while True:
            await connection.send(frame(b"x" * 60_000))

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_on(), 20)
    await no_connection_left()


def test_inflating_stops_at_the_limit():
    deflate = BoundedDeflate(1_000_000)
    deflate.accept("permessage-deflate")
    server = Connection(ConnectionType.SERVER, [deflate])
    tracemalloc.start()
    try:
        server.receive_data(frame(BOMB, compressed=True))
        events = list(server.events())
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert isinstance(events[-1], CloseConnection)
    assert events[-1].code == 1009


def messages(*frames):
    deflate = BoundedDeflate(1000)
    deflate.accept("permessage-deflate")
    connection = Connection(ConnectionType.SERVER, [deflate])
    connection.receive_data(b"".join(frames))
    events = list(connection.events())
    texts, text = [], ""
    for event in events:
        if isinstance(event, TextMessage):
            text += event.data
            if event.message_finished:
                texts.append(text)
                text = ""
        elif isinstance(event, CloseConnection):
            texts.append(event.code)
    return texts


def test_compressed_messages():
    one = deflated(b"one" * 300)
    assert messages(frame(one, compressed=True) * 3) == ["one" * 300] * 3
    assert messages(frame(b"a"), frame(one, compressed=True), frame(b"b")) == ["a", "one" * 300, "b"]
    ping, rest = frame(b"p", 9), frame(one[5:], 0)
    assert messages(frame(one[:5], fin=False, compressed=True), ping, rest, frame(b"b")) == ["one" * 300, "b"]
    assert messages(frame(b"not deflate", compressed=True)) == [1007]
    assert messages(frame(one, 0, compressed=True)) == [1002]
    assert messages(frame(b"p", 9, compressed=True)) == [1002]


def test_final_blocks():
    """RFC 7692, section 7.2.3.5. More than one in a message is a way to keep the server busy."""
    final = deflated(b"hello", zlib.Z_FINISH)
    assert messages(frame(final, compressed=True), frame(deflated(b"more"), compressed=True)) == ["hello", "more"]
    assert messages(frame(final[:-1] * 2, compressed=True)) == [1007]


async def test_compressed_echo(serve):
    async with websockets.connect(address(await serve()), compression="deflate") as socket:
        for text in ("hello" * 1000, "", "\u20ac" * 70_000, "hello" * 1000):
            await socket.send(text)
            assert await socket.recv() == text
        await socket.send(["frag", "ments"])
        assert await socket.recv() == "fragments"


@pytest.mark.parametrize(
    ("sent", "code"),
    [(frame(b"\xff"), 1007), (b"\x81\x05hello", 1002), (b"\xf1\x80\0\0\0\0", 1002), (frame(b"", 0), 1002)],
)
async def test_broken_frames_are_answered_with_a_reason(serve, raw, no_connection_left, sent, code):
    connection = raw(await serve())
    await connection.ask(HANDSHAKE % b"", b"\r\n\r\n")
    assert close_code(await connection.ask(sent + TEXT, seconds=5)) == code
    await no_connection_left()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Version: 13", b"Version: 12"), b"400"),
        ((b"Sec-WebSocket-Key", b"X-Key"), b"400"),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: \xff\r\n\r\n"), b"400"),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: \xff\r\n\r\n"), b"400"),
        ((b"HTTP/1.1", b"HTTP/1.0"), b"200"),  # no upgrade, then: an ordinary request
        ((b"\r\n\r\n", b"\r\nContent-Length: 3\r\nConnection: close, upgrade\r\n\r\nabc"), b"200"),
    ],
)
async def test_what_is_no_handshake_leaves_no_connection(serve, raw, no_connection_left, change, status):
    connection = raw(await serve(keep_alive_timeout=1.0))
    received = await connection.ask((HANDSHAKE % b"a").replace(*change), seconds=5)
    assert received.startswith(b"HTTP/1.1 %b " % status)
    await no_connection_left()


@pytest.mark.parametrize(
    "offer", [b"permessage-deflate; client_max_window_bits=x", b"permessage-deflate; a=b; ;;", b";"]
)
async def test_offers_that_make_no_sense_are_not_taken(serve, raw, offer):
    connection = raw(await serve())
    asked = (HANDSHAKE % b"")[:-2] + b"Sec-WebSocket-Extensions: " + offer + b"\r\n\r\n"
    assert b" 101 " in await connection.ask(asked, b"\r\n\r\n")


async def test_frames_before_the_handshake_is_answered(serve, raw, small, no_connection_left):
    connection = raw(await serve())
    await connection.send(HANDSHAKE % b"slow")
    await connection.send(TEXT)
    assert (await connection.read(seconds=5)).startswith(b"HTTP/1.1 400 ")
    await no_connection_left()


async def test_a_side_that_never_answers_a_close_is_not_waited_for(serve, raw, no_connection_left):
    connection = raw(await serve())
    await connection.ask(HANDSHAKE % b"closes", b"\r\n\r\n")
    assert close_code(await connection.read(seconds=5)) == 1008
    await no_connection_left()
