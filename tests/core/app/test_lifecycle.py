from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from nexus_core import Invocation, Nexus, Overloaded, Stage
from nexus_core.testing import stage_of

APP = """
import asyncio, sys, threading, time
from nexus_core import Nexus
nexus = Nexus(api_port={port}, cli_port=0, mcp_port=0, shutdown_grace={grace})

@nexus.workflow
async def work(seconds: float) -> str:
    print("working", flush=True)
    await asyncio.sleep(seconds)
    print("worked", flush=True)
    return "done"

@nexus.workflow
def block() -> None:
    print("working", flush=True)
    threading.Event().wait()

nexus.start()
print("left", flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """The application as a process of its own."""

    def __init__(self, folder: Path, grace: float) -> None:
        self.port = free_port()
        file = folder / "app.py"
        file.write_text(textwrap.dedent(APP).format(port=self.port, grace=grace))
        self.process = subprocess.Popen(
            [sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        self.url = f"http://127.0.0.1:{self.port}"
        end = time.monotonic() + 30
        while True:
            try:
                httpx2.get(f"{self.url}/api/workflows")
                return
            except httpx2.TransportError:
                assert self.process.poll() is None, self.process.stderr.read()
                assert time.monotonic() < end

    def call(self, workflow: str, params: dict[str, Any]) -> httpx2.Response:
        return httpx2.post(f"{self.url}/api/workflows/{workflow}/execute", json=params, timeout=30)

    def line(self) -> str:
        return self.process.stdout.readline().strip()


@pytest.fixture(name="serve")
def serve_fixture(tmp_path: Path) -> Any:
    started: list[Served] = []

    def serve(grace: float) -> Served:
        started.append(Served(tmp_path, grace))
        return started[-1]

    yield serve
    for each in started:
        each.process.kill()
        each.process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_work_finishes_new_work_is_refused_and_the_exit_code_is_0(serve: Any, number: int) -> None:
    served = serve(20)
    call = asyncio.create_task(asyncio.to_thread(served.call, "work", {"seconds": 1.5}))
    assert await asyncio.to_thread(served.line) == "working"
    served.process.send_signal(number)
    refused = None
    while refused is None or refused.status_code == 200:
        refused = await asyncio.to_thread(served.call, "work", {"seconds": 0})
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert (await call).json()["result"] == "done"
    assert await asyncio.to_thread(served.process.wait, 20) == 0
    assert served.process.stdout.read().splitlines()[-1] == "left"
    assert "Traceback" not in served.process.stderr.read()


@pytest.mark.parametrize("workflow", ["work", "block"])
async def test_work_longer_than_the_grace_is_cancelled(serve: Any, workflow: str) -> None:
    served = serve(0.3)
    params = {"seconds": 60} if workflow == "work" else {}
    call = asyncio.create_task(asyncio.to_thread(served.call, workflow, params))
    assert await asyncio.to_thread(served.line) == "working"
    begin = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert (await call).status_code in (409, 503)
    assert await asyncio.to_thread(served.process.wait, 20) == 0
    assert time.monotonic() - begin < 10
    assert "left" in served.process.stdout.read()


def test_a_port_in_use_is_named_and_nothing_is_half_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "app.py").write_text(textwrap.dedent(APP).format(port=port, grace=1))
        done = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"nexus: api_port {port} on 127.0.0.1 is in use; set api_port (NEXUS_API_PORT) to a free port."
    )
    assert "Traceback" not in done.stderr
    assert "left" not in done.stdout


def test_listening_for_everybody_without_authentication_is_refused(tmp_path: Path) -> None:
    code = "from nexus_core import Nexus; Nexus(host='0.0.0.0', api_port=0, cli_port=0, mcp_port=0).start()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "enable_auth=True" in done.stderr.splitlines()[-1]


async def test_start_and_stop_twice_and_calls_without_a_start(make: Any) -> None:
    nexus = make()
    nexus.register("w", lambda: 1)
    assert (await nexus.invoke("w")).value == 1
    for _ in range(2):
        async with nexus:
            assert (await nexus.invoke("w")).value == 1
    assert (await nexus.invoke("w")).value == 1


def test_several_loops_one_after_the_other(make: Any) -> None:
    nexus = make()
    nexus.register("w", lambda: 1)

    async def call() -> Any:
        async with nexus:
            return (await nexus.invoke("w")).value

    assert [asyncio.run(call()), asyncio.run(call())] == [1, 1]


async def test_two_platforms_side_by_side(make: Any) -> None:
    one, two = make(max_concurrent_workflows=1), make()
    one.register("w", lambda: "one")
    two.register("w", lambda: "two")
    async with one, two:
        assert (await one.invoke("w")).value == "one"
        assert (await two.invoke("w")).value == "two"
    assert len(one.runs.find()) == len(two.runs.find()) == 1


async def test_leaving_waits_for_running_work(make: Any) -> None:
    nexus = make(shutdown_grace=5)
    began, finish = asyncio.Event(), asyncio.Event()

    @nexus.workflow
    async def work() -> str:
        began.set()
        await finish.wait()
        return "done"

    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        await began.wait()
        asyncio.get_running_loop().call_later(0.05, finish.set)
    assert (await run.outcome()).value == "done"


async def test_work_is_refused_while_stopping(make: Any) -> None:
    nexus = make(shutdown_grace=5)
    began, finish = asyncio.Event(), asyncio.Event()

    @nexus.workflow
    async def work() -> None:
        began.set()
        await finish.wait()

    await nexus.__aenter__()
    admission = stage_of(nexus, Stage.ADMIT)
    call = asyncio.create_task(nexus.invoke("work"))
    await began.wait()
    admission.close()
    with pytest.raises(Overloaded, match="shutting down"):
        await nexus.invoke("work")
    finish.set()
    await call
    await nexus.__aexit__()


async def test_without_a_server_it_says_what_to_install(make: Any) -> None:
    with pytest.raises(Exception, match="nexus-hub-hypercorn"):
        async with make().serving():
            pass


async def test_channels_share_a_port(tmp_path: Path) -> None:
    port = free_port()
    nexus = Nexus(api_port=port, cli_port=port, mcp_port=port)
    nexus.register("w", lambda: 1)
    async with nexus.serving() as listeners, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert len(listeners) == 1
        assert set(listeners[0].channels) == {"api", "cli", "mcp"}
        assert (await client.get("/api/workflows")).status_code == 200
        assert (await client.post("/cli", json={"command": "list"})).status_code == 200
        assert (await client.get("/mcpx")).status_code == 404
        assert (await client.post("/mcp", json={})).status_code == 400
