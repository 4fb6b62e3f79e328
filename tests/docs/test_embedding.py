"""The examples of embedding, each as its page says: with real requests, and as programs of their own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "embedding"


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}


def run(name: str, given: str = "") -> list[str]:
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_page_names_every_example() -> None:
    page = (ROOT / "docs" / "how-to" / "embedding.md").read_text()
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(re.findall(r"embedding/(\w+\.py)", page))


def test_a_script() -> None:
    assert run("script.py") == ["4.0 True", "validation_error /price"]


def test_two_platforms() -> None:
    assert run("two_platforms.py") == ["True", "1.5", "workflow_not_found"]


def test_a_worker() -> None:
    jobs = [
        {"workflow": "square", "params": {"number": 3}},
        {"workflow": "square", "params": {"number": "x"}},
        {"workflow": "cube", "params": {"number": 3}},
        {"workflow": "square", "params": {"number": 4}, "id": "a"},
        ["no job"],
    ]
    done = run("worker.py", "".join(json.dumps(job) + "\n" for job in jobs) + "no JSON\n" + '{"params": {}}\n')
    wrong = {"error": "a job is an object with workflow, params and perhaps id"}
    assert [json.loads(line) for line in done] == [
        {"result": 9}, {"error": "validation_error"}, {"error": "workflow_not_found"}, {"result": 16},
        wrong, wrong, wrong,
    ]  # fmt: skip


@pytest.fixture(name="serve")
def serve_fixture(tmp_path: Path) -> Iterator[object]:
    """Serve an example with hypercorn's own command, and return its address."""
    started: list[subprocess.Popen[bytes]] = []

    def serve(name: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "hypercorn", f"{name}:app", "--bind", f"127.0.0.1:{port}"]
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=EXAMPLES, env=environment(), stdout=log, stderr=log))
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return f"http://127.0.0.1:{port}"
            except OSError:
                assert started[-1].poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)

    yield serve
    for process in started:
        process.terminate()
        process.wait(20)


async def mcp_answer(url: str, name: str, arguments: dict[str, object]) -> object:
    from mcp.client import Client

    async with Client(url) as client:
        return (await client.call_tool(name, arguments)).structured_content["result"]


async def test_starlette(serve) -> None:
    url = serve("starlette_app")
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
        assert (await client.get("/", params={"name": "Ann"})).text == "Hello Ann"
        answer = await client.post("/nexus/api/workflows/greet/execute", json={"name": "Bob"})
        assert answer.json()["result"] == "Hello Bob"
        assert (await client.get("/api/workflows")).status_code == 404
        assert (await client.get("/nexus/health/ready")).json()["status"] == "ready"
    assert await mcp_answer(f"{url}/nexus/mcp", "greet", {"name": "Eve"}) == "Hello Eve"
    command = [sys.executable, "-m", "nexus_core", "--connect", f"{url}/nexus", "execute", "greet", "--name", "Zoe"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(), check=True)
    assert json.loads(done.stdout)["result"] == "Hello Zoe"


async def test_fastapi(serve) -> None:
    url = serve("fastapi_app")
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
        assert (await client.get("/prices/book", params={"pieces": 2})).json() == {"price": 24.0}
        refused = await client.get("/prices/car")
        assert (refused.status_code, refused.json()["detail"]["code"]) == (500, "workflow_failed")
        answer = await client.post("/nexus/api/workflows/price/execute", json={"article": "pen"})
        assert answer.json()["result"] == 1.5
        assert (await client.get("/openapi.json")).json()["paths"].keys() == {"/prices/{article}"}
        paths = (await client.get("/nexus/openapi.json")).json()["paths"]
        assert any(path.endswith("/workflows/price/execute") for path in paths)
