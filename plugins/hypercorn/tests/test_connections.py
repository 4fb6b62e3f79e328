"""Connections: kept alive, half open, many, broken, left, and those that want to speak HTTP/2."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import time

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


@pytest.mark.parametrize("version", [b"2.0", b"9.9", b"0.9", b"3.1"])
async def test_other_versions_of_http_are_refused(serve, raw, no_connection_left, small, version):
    received = await raw(await serve()).ask(b"GET /a HTTP/%b\r\nHost: localhost\r\n\r\n" % version)
    assert received.startswith(b"HTTP/1.1 505 ")
    assert b"HTTP/1.1." in received  # says what the port speaks
    await no_connection_left()


@pytest.mark.parametrize("version", [b"1.0", b"1.1", b"1.2"])
async def test_versions_of_http_1_are_answered(serve, raw, version):
    request = b"GET /a HTTP/%b\r\nHost: localhost\r\nConnection: close\r\n\r\n" % version
    assert b" 200 " in await raw(await serve()).ask(request)


async def test_a_client_that_begins_with_http2_is_refused(serve, raw, no_connection_left, caplog):
    client = raw(await serve())
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    received = await client.ask(preface, seconds=5)
    assert received.startswith(b"HTTP/1.1 505 ")
    await no_connection_left()
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("offer", [b"h2c", b"H2C", b"TLS/1.0", b"foo, h2c"])
@pytest.mark.parametrize("body", [b"", b"Content-Length: 5\r\n"])
async def test_upgrades_are_ignored(serve, raw, no_connection_left, offer, body):
    """Java's HttpClient and `curl --http2` offer h2c with their first request on each connection."""
    connection = raw(await serve())
    offered = (
        b"POST /a HTTP/1.1\r\nHost: localhost\r\nUpgrade: " + offer + b"\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"HTTP2-Settings: AAQAAAAA\r\n" + body + b"\r\n" + (b"hello" if body else b"")
    )
    for _ in range(2):
        connection.received = b""
        received = await connection.ask(offered, b"}")
        assert received.startswith(b"HTTP/1.1 200 ")
        assert (b'"length": 5' if body else b'"length": 0') in received
    connection.close()
    await no_connection_left()


MORE_THAN_IS_READ = 240_000
"""More than is read ahead and asyncio buffers, and less than these with what the kernel takes at first: a socket that
is closed with data it could not send says so only after that data, which never goes while nothing is read."""

POST = b"POST /watched HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n%b\r\n{}"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(POST % b"", id="plain"),
        pytest.param(POST % b"Upgrade: h2c\r\nConnection: upgrade\r\n", id="offer of h2c"),
        pytest.param(GET % b"watched" + b"\r\n", id="empty line"),
        pytest.param(POST % b"" + b"\r\n", id="empty line after a body"),
        pytest.param(GET % b"watched" + b"x" * 100, id="rubbish"),
        pytest.param((GET % b"watched") * 5, id="pipelined"),
        pytest.param(
            GET % b"watched" + b"x" * MORE_THAN_IS_READ,
            id="more than is read",
            marks=pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the system does not tell"),
        ),
    ],
)
async def test_that_a_caller_leaves_is_noticed(serve, raw, small, no_connection_left, eventually, sent):
    connection = raw(await serve())
    async with asyncio.timeout(10):
        await connection.send(sent)
    await eventually(lambda: small.under_way)
    connection.close()
    await no_connection_left()


async def test_that_a_caller_is_reset_is_noticed_though_it_could_not_send_all(
    serve, raw, small, no_connection_left, eventually
):
    connection = raw(await serve())
    sending = asyncio.create_task(connection.send(GET % b"watched" + b"x" * 20_000_000))
    await eventually(lambda: small.under_way)
    sending.cancel()
    await asyncio.wait({sending})
    connection.reset()
    await no_connection_left()


async def test_an_empty_line_after_a_body_belongs_to_nothing(serve, raw):
    connection = raw(await serve())
    for path in (b"/one", b"/two"):
        request = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}\r\n" % path
        assert b" 200 " in await connection.ask(request, path)


@pytest.mark.parametrize("size", [17_000, 60_000, 160_000])
async def test_a_head_that_comes_at_once_is_bounded_too(serve, raw, no_connection_left, size):
    headers = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 90) for number in range(size // 100))
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n"
    received = await raw(await serve()).ask(head, seconds=5)
    assert received.startswith(b"HTTP/1.1 431 ")
    assert b"16384" in received
    await no_connection_left()


async def test_the_answer_arrives_though_the_other_side_goes_on_sending(serve, raw, no_connection_left):
    """A connection that is closed while something comes is reset, and the reset overtakes the answer."""
    url = await serve()
    for _ in range(10):
        connection = raw(url)
        sending = asyncio.create_task(connection.send(b"GET / HTTP/1.1\r\nX: " + b"a" * 500_000))
        assert (await connection.read(b"}", seconds=5)).startswith(b"HTTP/1.1 431 ")
        await asyncio.wait({sending})
        connection.close()
    await no_connection_left()


async def test_a_refused_connection_does_not_stay(serve, raw, no_connection_left):
    """The other side neither sends nor closes."""
    connection = raw(await serve(keep_alive_timeout=60))
    assert b" 400 " in await connection.ask(b"rubbish\r\n\r\n", b"}")
    await no_connection_left()


SERVER = """
import asyncio, logging, resource, sys
from nexus_hypercorn.plugin import HypercornPlugin
from nexus_core import Channel, Nexus, hookimpl

class Small(Channel):
    name, port = "small", 0
    def asgi_app(self):
        return self.answer
    async def answer(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

class Channels:
    __name__ = "channels"
    @hookimpl
    def nexus_register_channels(self, nexus):
        return [Small()]

async def main():
    nexus = Nexus(discover=False, plugins=[Channels(), HypercornPlugin], keep_alive_timeout=600.0)
    async with nexus.serving() as listeners:
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        print(listeners[0].url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

logging.basicConfig(level=logging.INFO)
asyncio.run(main())
"""


async def test_out_of_file_descriptors(raw):
    """One line in the log; new connections wait, and are answered when there is place again."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            url = (await process.stdout.readline()).decode().strip()
            connections = [raw(url) for _ in range(100)]
            for connection in connections:
                await connection.send(GET % b"a")
            answered = [await connection.read(b"ok") for connection in connections[:30]]
            assert all(b" 200 " in each for each in answered)
            while b"No connection can be accepted" not in (line := await process.stderr.readline()):
                assert line
            for connection in connections[:60]:
                connection.close()
            for connection in connections[60:]:
                assert b" 200 " in await connection.read(b"ok")
        process.stdin.close()
        rest = (await process.stderr.read()).decode().splitlines()
        assert len([line for line in rest if "accepted" in line]) <= 1
        assert len(rest) < 10
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_writing_on_when_the_other_side_has_gone_is_not_logged(serve, raw, small, no_connection_left, caplog):
    """asyncio logs a warning for each write on a connection that was lost."""
    connection = raw(await serve(send_timeout=0.5), SO_RCVBUF=4096)
    await connection.send(GET % b"streamed")
    await no_connection_left()
    assert len(caplog.records) == 0


async def test_an_answer_that_breaks_off_costs_a_line(serve, raw, no_connection_left, caplog):
    url = await serve()
    for _ in range(20):
        connection = raw(url)
        assert b" 200 " in await connection.ask(GET % b"breaks", seconds=5)  # to its end: it is cut
        connection.close()
    await no_connection_left()
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.getMessage().startswith("The response on /breaks was aborted: ValueError: out of paper (conftest.py:")
    assert record.exc_info is None
