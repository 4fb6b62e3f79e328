"""WebSockets that end in every way there is."""

from __future__ import annotations

import asyncio

import pytest
import websockets

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
