"""WebSocket connections that close, vanish, do not read, or come from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import struct

import pytest
import websockets


def address(client):
    return str(client.base_url).replace("http", "ws", 1).rstrip("/") + "/api/ws"


def call(id, workflow, **params):
    return json.dumps({"type": "execute", "id": id, "workflow": workflow, "params": params})


def handshake(*headers):
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ["GET /api/ws HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
    return "\r\n".join([*lines, f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *headers, "", ""]).encode()


def frame(text, opcode=1):
    """A masked frame; the mask of zeros leaves the text as it is."""
    data = text.encode() if isinstance(text, str) else text
    size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(data))
    return bytes([0x80 | opcode]) + size + bytes(4) + data


async def test_closing_cancels_the_runs(client, seen, idle):
    async with websockets.connect(address(client)) as socket:
        for number in range(5):
            await socket.send(call(number, "sleeps"))
        await seen.started.wait()
    await idle(client.nexus)
    assert seen.cancelled.is_set()


async def test_200_connections_that_vanish_leave_nothing(client, raw, idle, caplog, eventually):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    connections = [raw(client.base_url) for _ in range(200)]
    for index, connection in enumerate(connections):
        await connection.ask(handshake(), b"\r\n\r\n")
        await connection.send(
            frame(call(index, "sleeps" if index % 4 == 0 else "add", **({"a": 1} if index % 4 else {})))
        )
    await eventually(lambda: len(client.nexus.runs.running()) == 50)
    for connection in connections:
        connection.reset()
    await idle(client.nexus)
    of_connections = ("Port._serve", "_send_pings", "Tasks._answer", "_discard")

    def left():
        names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
        return [name for name in names if name.endswith(of_connections)]

    await eventually(lambda: not left())
    assert len(caplog.records) < 20


async def test_a_connection_that_vanishes_while_it_is_flooded_with_answers(client, raw, idle):
    """The server is blocked in sending, and its queue of messages is full, when the other side goes."""
    connection = raw(client.base_url)
    await connection.ask(handshake(), b"\r\n\r\n")
    for number in range(8):
        await connection.send(frame(call(number, "blob", size=4_000_000)))
    sending = asyncio.create_task(connection.send(frame("rubbish") * 500_000))
    await asyncio.wait({sending}, timeout=1)
    sending.cancel()
    connection.reset()
    await idle(client.nexus)


async def test_a_caller_that_never_reads_holds_up_nobody_else(client, raw, idle):
    connection = raw(client.base_url)
    await connection.ask(handshake(), b"\r\n\r\n")
    for number in range(20):
        await connection.send(frame(call(number, "blob", size=4_000_000)))
    for _ in range(20):
        answer = await client.post("/api/workflows/add/execute", json={"a": 1}, timeout=5)
        assert answer.status_code == 200
    connection.close()
    await idle(client.nexus)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(b"\xff\xfe"), id="not UTF-8"),
        pytest.param(b"\x81\x05hello", id="unmasked"),
        pytest.param(b"\xf1\x80\0\0\0\0", id="reserved bits"),
        pytest.param(b"\x8f\x80\0\0\0\0", id="unknown opcode"),
        pytest.param(b"\x81\xff" + b"\xff" * 8 + bytes(4), id="length of 2^64"),
        pytest.param(frame(b"x" * 120, 9) + frame(b"", 8) + frame("{}"), id="message after close"),
        pytest.param(os.urandom(5000), id="random"),
        pytest.param(frame(struct.pack(">H", 1005), 8), id="forbidden close code"),
    ],
)
async def test_broken_frames_end_only_their_connection(client, raw, idle, caplog, data):
    connection = raw(client.base_url)
    assert b" 101 " in await connection.ask(handshake(), b"\r\n\r\n")
    await connection.send(frame(call(1, "sleeps")) + data)
    try:
        await connection.read(seconds=1)
    except TimeoutError:
        connection.close()
    await idle(client.nexus)
    assert (await client.post("/api/workflows/add/execute", json={"a": 1})).status_code == 200
    assert "Traceback" not in caplog.text
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: http://evil.example",),
        ("Origin: null",),
        ("Origin: http://127.0.0.1.evil.example",),
        ("Origin: http://[",),
    ],
)
async def test_foreign_pages_are_refused(client, raw, headers):
    answer = await raw(client.base_url).ask(handshake(*headers), b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_the_same_origin_is_let_in(client, raw):
    assert b" 101 " in await raw(client.base_url).ask(handshake("Origin: http://127.0.0.1"), b"\r\n\r\n")


async def test_what_is_not_a_handshake(client):
    answer = await client.get("/api/ws")
    assert answer.status_code in (404, 426)
    assert answer.headers["content-type"] == "application/problem+json"
