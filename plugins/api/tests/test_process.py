"""A served process: memory, signals, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time

import httpx2
import pytest
import websockets

PROGRAM = """
import asyncio, sys
from nexus_api.plugin import ApiPlugin
from nexus_hypercorn.plugin import HypercornPlugin
from nexus_core import Context, Nexus

options = eval(sys.argv[1])
nexus = Nexus(discover=False, plugins=[ApiPlugin, HypercornPlugin], **({"api_port": 0} | options))

@nexus.workflow
async def add(a: int = 0, b: int = 0) -> int:
    return a + b

@nexus.workflow
async def sleeps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"

@nexus.workflow
async def blob(size: int) -> str:
    return "x" * size

@nexus.workflow
def stubborn(seconds: float) -> str:
    import time
    time.sleep(seconds)
    return "slept"

nexus.start()
"""


class Served:
    def __init__(self, process, url, lines):
        self.process, self.url, self._lines = process, url, lines

    @property
    def log(self):
        return "".join(self._lines)

    def resident_megabytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024

    async def exit(self, seconds):
        return await asyncio.wait_for(self.process.wait(), seconds)


@pytest.fixture
async def run():
    started = []

    async def start(may_listen=True, **options):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, repr(options), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, env={k: v for k, v in os.environ.items() if not k.startswith("NEXUS_")},
        )  # fmt: skip
        lines = []
        listening = asyncio.get_running_loop().create_future()

        async def read():
            while line := (await process.stderr.readline()).decode():
                lines.append(line)
                found = re.search(r"Listening on (\S+): api", line)
                if found and not listening.done():
                    listening.set_result(found[1])
            if not listening.done():
                listening.set_result(None)

        started.append((process, asyncio.create_task(read())))
        served = Served(process, await asyncio.wait_for(listening, 20), lines)
        assert served.url or not may_listen, served.log
        return served

    yield start
    for process, reading in started:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_large_bodies_take_no_memory(run, chunked):
    served = await run()

    async def body():
        for _ in range(1600):
            yield b"0" * 65536

    async with httpx2.AsyncClient(base_url=served.url, timeout=30) as client:
        await client.post("/api/workflows/add/execute", json={"a": 1})
        before = peak = served.resident_megabytes()
        headers = {"content-type": "application/json"} | ({} if chunked else {"content-length": str(1600 * 65536)})
        calls = [client.post("/api/workflows/add/execute", content=body(), headers=headers) for _ in range(3)]
        pending = {asyncio.ensure_future(call) for call in calls}
        while pending:
            done, pending = await asyncio.wait(pending, timeout=0.02)
            assert all(task.result().status_code == 413 for task in done)
            peak = max(peak, served.resident_megabytes())
    # Three at once, each below max_body_bytes (4 MiB) before it is refused.
    assert peak - before < 20


async def test_sigterm_lets_work_finish(run):
    served = await run(shutdown_grace=5)
    async with (
        httpx2.AsyncClient(base_url=served.url, timeout=20) as client,
        websockets.connect(served.url.replace("http", "ws") + "/api/ws") as socket,
    ):
        handle = await client.post("/api/workflows/sleeps/execute?wait=0", json={"seconds": 1.5})
        call = asyncio.create_task(client.post("/api/workflows/sleeps/execute", json={"seconds": 1}))
        events = asyncio.create_task(client.get(f"/api/runs/{handle.json()['run_id']}/events"))
        while len((await client.get("/api/runs?status=running")).json()["runs"]) < 2:
            await asyncio.sleep(0.01)
        begin = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        # Until the signal has been taken, calls are answered.
        while (refused := await client.post("/api/workflows/add/execute", json={"a": 1})).status_code == 200:
            assert time.monotonic() - begin < 4
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert (await call).json()["result"] == "slept"
        assert "workflow.completed" in (await events).text
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 8)
        assert closed.value.rcvd.code == 1012
        assert await served.exit(8) == 0
        assert time.monotonic() - begin < 10
    assert "Traceback" not in served.log
    assert "never retrieved" not in served.log


async def test_sigterm_ends_what_does_not_finish(run):
    served = await run(shutdown_grace=0.3, drain_seconds=0.2)
    async with (
        httpx2.AsyncClient(base_url=served.url, timeout=20) as client,
        websockets.connect(served.url.replace("http", "ws") + "/api/ws") as socket,
    ):
        await socket.send('{"type": "execute", "id": 1, "workflow": "sleeps", "params": {"seconds": 600}}')
        await socket.recv()
        headers = {"accept": "text/event-stream"}
        streaming = client.stream("POST", "/api/workflows/sleeps/execute", json={"seconds": 600}, headers=headers)
        async with streaming as answer:
            text = answer.aiter_text()
            received = await anext(text)
            stubborn = asyncio.create_task(client.post("/api/workflows/stubborn/execute", json={"seconds": 600}))
            while len((await client.get("/api/runs?status=running")).json()["runs"]) < 3:
                await asyncio.sleep(0.01)
            begin = time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            received += "".join([piece async for piece in text])
        assert "workflow.cancelled" in received
        assert (await stubborn).status_code in (409, 503)
        with contextlib.suppress(websockets.ConnectionClosed):
            async for _ in socket:
                pass
        assert socket.close_code == 1012
        assert await served.exit(10) == 0
        assert time.monotonic() - begin < 8
    assert "Traceback" not in served.log


UPGRADE = (
    b"GET /api/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CALL = b'{"type": "execute", "id": 1, "workflow": "blob", "params": {"size": 15000000}}'
HANGERS_ON = {
    "half a body": b"POST /api/workflows/blob/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{",
    "half a head": b"POST /api/workflows/blob/execute HTTP/1.1\r\nHost: lo",
    "unread answer": b"POST /api/workflows/blob/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18\r\n"
    b'Content-Type: application/json\r\n\r\n{"size": 15000000}',
    "unread WebSocket": UPGRADE,
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HANGERS_ON)
async def test_sigterm_with_a_client_that_hangs_on(run, kind):
    served = await run(shutdown_grace=0.2, drain_seconds=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]), limit=1000)
    writer.write(HANGERS_ON[kind])
    if kind == "unread WebSocket":
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes([0x81, 0x80 | len(CALL), 0, 0, 0, 0]) + CALL)
    if kind.startswith("unread"):
        await reader.readexactly(20)
    async with httpx2.AsyncClient(base_url=served.url) as client:
        await client.get("/api/runs")  # what was sent before has been taken
    begin = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert await served.exit(15) == 0
    assert time.monotonic() - begin < 8
    assert "Traceback" not in served.log
    writer.close()


async def test_a_port_in_use(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        served = await run(may_listen=False, api_port=port)
        assert await served.exit(10) == 1
    (line,) = [line for line in served.log.splitlines() if line.startswith("nexus:")]
    assert "api_port" in line
    assert str(port) in line
    assert "Traceback" not in served.log


async def test_listening_for_others_without_authentication_is_refused(run):
    served = await run(may_listen=False, host="0.0.0.0")
    assert await served.exit(10) == 1
    assert "enable_auth" in served.log
    assert "insecure" in served.log
    assert served.url is None
    assert "Traceback" not in served.log
