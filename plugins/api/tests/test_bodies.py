"""Bodies that are too large, too slow or ambiguous: refused early, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time

import httpx2
import pytest

HEAD = b"POST /api/workflows/echo/execute HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def slow(make_nexus, serve):
    """A platform that waits for a body for a moment only."""
    nexus = make_nexus(body_timeout=1.0)
    async with httpx2.AsyncClient(base_url=await serve(nexus)) as client:
        client.nexus = nexus
        yield client


async def zeros(megabytes):
    for _ in range(megabytes * 16):
        yield b"0" * 65536


async def test_a_length_that_is_too_large_is_refused_before_the_body_comes(client, raw, idle):
    connection = raw(client.base_url)
    answer = await connection.ask(HEAD + b"Content-Length: 100000000\r\n\r\n", b"}", seconds=10)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"max_body_bytes" in answer
    assert b"connection: close" in answer.lower()
    await idle(client.nexus)


@pytest.mark.parametrize("headers", [{"content-length": str(100 * 2**20)}, {}], ids=["length", "chunked"])
async def test_a_client_that_sends_all_of_it_gets_the_answer(client, idle, headers):
    begin = time.monotonic()
    answer = await client.post(
        "/api/workflows/echo/execute", content=zeros(100), headers={"content-type": "application/json", **headers}
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "request_too_large"
    assert time.monotonic() - begin < 5
    await idle(client.nexus)


async def test_a_chunked_body_is_measured(client, raw):
    connection = raw(client.base_url)
    await connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(70):
        await connection.send(b"10000\r\n" + b" " * 65536 + b"\r\n")
        await asyncio.sleep(0)
    assert (await connection.read(b"}")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_line",
    ["GET /api/workflows", "GET /nothing", "POST /api/runs/nobody/cancel", "GET /docs", "GET /api/runs/{}?wait=0.5"],
)
async def test_a_body_that_nobody_reads_holds_nothing(client, raw, idle, request_line):
    connection = raw(client.base_url)
    run_id = (await client.post("/api/workflows/sleeps/execute?wait=0", json={"seconds": 0.7})).json()["run_id"]
    request_line = request_line.format(run_id)
    body = b"0" * 3_000_000
    answer = asyncio.create_task(connection.read(b"\r\n\r\n"))
    try:
        await connection.send(f"{request_line} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3000000\r\n\r\n".encode())
        await connection.send(body)
    except ConnectionError:
        pass
    assert (await answer).startswith(b"HTTP/1.1 ")
    connection.close()
    await idle(client.nexus)


@pytest.mark.parametrize("end", [b"Content-Length: 20\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
async def test_a_body_that_stalls_is_cut(slow, raw, end):
    begin = time.monotonic()
    answer = await raw(slow.base_url).ask(HEAD + end, seconds=10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_timeout" in answer
    assert time.monotonic() - begin < 8


async def test_bodies_that_trickle_are_cut_while_others_are_served(slow, raw):
    connections = [raw(slow.base_url) for _ in range(20)]
    for connection in connections:
        await connection.send(HEAD + b"Content-Length: 1000\r\n\r\n{")

    async def trickle(connection):
        try:
            while True:
                await connection.send(b" ")
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass

    trickles = [asyncio.create_task(trickle(connection)) for connection in connections]
    begin = time.monotonic()
    assert (await slow.post("/api/workflows/add/execute", json={"a": 1})).status_code == 200
    assert time.monotonic() - begin < 1.0
    answers = await asyncio.gather(*(connection.read(seconds=15) for connection in connections))
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    await asyncio.gather(*trickles)


async def test_the_time_limit_is_for_the_body_alone(slow):
    answer = await slow.post("/api/workflows/sleeps/execute", json={"seconds": 0.8})
    assert answer.json()["result"] == "slept"


SMUGGLED = b"GET /api/workflows HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: -2\r\n\r\n{}",
        b"Content-Length: 0x2\r\n\r\n{}",
        b"Content-Length: 2, 3\r\n\r\n{}",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    ],
)
async def test_ambiguous_framing_answers_nothing_that_is_smuggled(client, raw, framing):
    answer = await raw(client.base_url).ask(HEAD + framing + SMUGGLED, seconds=4)
    assert answer.count(b"HTTP/1.1 ") <= 1, answer
    assert b'"workflows"' not in answer
    if answer:
        assert answer[9:12] in (b"400", b"501"), answer


@pytest.mark.parametrize("version", [b"1.0", b"1.2", b"2.0", b"9.9"])
async def test_odd_versions_smuggle_nothing_either(client, raw, version):
    head = HEAD.replace(b"HTTP/1.1", b"HTTP/" + version)
    framing = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = await raw(client.base_url).ask(head + framing + SMUGGLED, seconds=4)
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert answer[9:12] == (b"400" if version.startswith(b"1.") else b"505")


async def test_one_byte_chunks(client, raw):
    connection = raw(client.base_url)
    text = b'{"value": "' + b"x" * 20_000 + b'"}'
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in text) + b"0\r\n\r\n"
    begin = time.monotonic()
    answer = await connection.ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body, until=b"run_id")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - begin < 8
