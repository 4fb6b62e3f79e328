"""Connections: kept alive, half open, many, broken, and those that speak HTTP/2."""

from __future__ import annotations

import asyncio
import resource
import socket
import time

import h2.config
import h2.connection
import h2.events
import pytest

GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_keep_alive(serve, raw):
    connection = raw(await serve())
    for number in range(5):
        connection.received = b""
        await connection.send(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
        assert b'"/%d"' % number in await connection.read(b"}")


async def test_the_longest_time_limits(serve, raw):
    year = 31_536_000
    url = await serve(send_timeout=year, keep_alive_timeout=year, websocket_ping_interval=year)
    assert b" 200 " in await raw(url).ask(GET % b"a", b"}")


async def test_idle_connections_are_closed(serve, raw, no_connection_left):
    connection = raw(await serve(keep_alive_timeout=0.5))
    await connection.send(GET % b"a")
    await connection.read(seconds=10)
    assert connection.received.count(b"HTTP/1.1 200") == 1
    await no_connection_left()


async def test_pipelined_requests_are_answered_in_order(serve, raw, small, eventually):
    connection = raw(await serve())
    await connection.send(GET % b"held" + GET % b"one" + GET % b"two")
    await eventually(lambda: small.under_way)
    small.released.set()
    received = await connection.read(b'"/two"')
    assert received.index(b"held") < received.index(b'"/one"') < received.index(b'"/two"')


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "])
async def test_half_a_request_head_is_cut(serve, raw, no_connection_left, sent):
    connection = raw(await serve(keep_alive_timeout=0.3))
    await connection.send(sent)
    begin = time.monotonic()
    await connection.read(seconds=10)
    assert time.monotonic() - begin < 8
    await no_connection_left()


async def test_a_head_that_trickles_is_cut(serve, raw):
    connection = raw(await serve(keep_alive_timeout=0.4))
    begin = time.monotonic()
    await connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
    reading = asyncio.create_task(connection.read(seconds=10))
    while not reading.done() and time.monotonic() - begin < 10:
        try:
            await connection.send(b"a")
        except ConnectionError:
            break
        await asyncio.sleep(0.05)
    await reading
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2_000_000, (431, 400)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 5000, (431, 400)),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414, 431, 400)),
        (b"GET / HTTP/1.1\r\n\r\n", (400,)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400,)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", (400,)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n X: folded\r\n\r\n", (400, 200)),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,)),
        (b"rubbish\r\n\r\n", (400,)),
    ],
)
async def test_broken_heads(serve, raw, no_connection_left, caplog, head, statuses):
    connection = raw(await serve(keep_alive_timeout=1))
    try:
        await connection.send(head)
    except ConnectionError:
        pass
    received = await connection.read(seconds=5)
    assert not received or int(received[9:12]) in statuses, received
    await no_connection_left()
    assert "Traceback" not in caplog.text


async def test_300_connections_open_and_close(serve, raw, no_connection_left):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    url = await serve()
    connections = [raw(url) for _ in range(300)]
    for index, connection in enumerate(connections):
        await connection.send(GET % b"x" if index % 3 else b"GET / HT")
    for index, connection in enumerate(connections):
        if index % 3:
            assert b" 200 " in await connection.read(b"}")
        connection.reset() if index % 2 else connection.close()
    await no_connection_left()


async def test_an_application_that_never_reads_a_body_of_many_messages(serve, raw, no_connection_left):
    """hypercorn's queue is full when the answer ends."""
    url = await serve()
    connection = raw(url)
    head = b"POST /deaf HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    await connection.send(head + b"1\r\na\r\n" * 100)
    assert b" 200 " in await connection.read(b"deaf", seconds=3)
    connection.close()
    await no_connection_left()


async def test_an_ambiguous_request_with_many_chunks(serve, raw, no_connection_left):
    connection = raw(await serve())
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
    await connection.send(head + b"1\r\na\r\n" * 100)
    assert b" 400 " in await connection.read(b"}", seconds=3)
    connection.close()
    await no_connection_left()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no TCP_USER_TIMEOUT")
async def test_an_answer_that_nobody_reads_is_cut(serve, raw, small, no_connection_left):
    connection = raw(await serve(send_timeout=0.5), SO_RCVBUF=4096)
    await connection.send(GET % b"large")
    await no_connection_left()


def http2():
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    return connection


def open_stream(connection):
    stream = connection.get_next_available_stream_id()
    headers = [(":method", "GET"), (":path", "/held"), (":scheme", "http"), (":authority", "localhost")]
    connection.send_headers(stream, headers, end_stream=True)
    return stream


async def test_http2_is_off(serve, raw, small, no_connection_left, caplog):
    connection, client = http2(), raw(await serve())
    open_stream(connection)
    await client.send(connection.data_to_send())
    events = connection.receive_data(await client.read(seconds=3))
    assert any(isinstance(event, h2.events.ConnectionTerminated) for event in events)
    await no_connection_left()
    assert "Traceback" not in caplog.text


async def test_http2_streams_that_are_reset_at_once(serve, raw, no_connection_left, small):
    connection, client = http2(), raw(await serve())
    for _ in range(1000):
        connection.reset_stream(open_stream(connection))
    try:
        await client.send(connection.data_to_send())
    except ConnectionError:
        pass
    client.close()
    await no_connection_left()


async def test_the_upgrade_to_http2_is_refused(serve, raw, no_connection_left, small):
    client = raw(await serve())
    settings = b"AAQAAAAA"  # an initial window of 0 bytes: nothing with a body could ever be sent
    await client.send(
        b"GET /held HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"HTTP2-Settings: " + settings + b"\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    )
    await client.read(b" 101 ")
    client.close()
    await no_connection_left()
