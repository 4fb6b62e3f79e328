"""Durable runs of two served processes, one of which is killed: the other goes on with its runs."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from forked_processes import ForkedProcesses
from gated_steps import GATED, begun
from served_process import answers, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 60.0
STEPS = 5
numbers = count(1)

APP = (
    GATED
    + """
@nexus.workflow(durable=True)
async def order(context: Context, item: str) -> list:
    context.output("begun")
    return [item, *[await context.step(f"step {number}", do, number) for number in range(5)]]

@nexus.workflow(durable=True)
async def confirm(context: Context) -> str:
    return await context.ask("Sure?", str)
"""
)


class Process:
    """A served process, and what its clients do."""

    def __init__(self, processes: ForkedProcesses, name: str, folder: Path, options: dict[str, str]) -> None:
        ports = {each: free_port() for each in ("api", "cli", "mcp")}
        own = {f"NEXUS_{each.upper()}_PORT": str(port) for each, port in ports.items()}
        self.processes = processes
        self.pid = processes.start(folder, name, options | own, ["serve", "app:nexus"])
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{ports['api']}", timeout=SECONDS)
        end = time.monotonic() + SECONDS
        while not answers(ports["api"]):
            assert processes.lives(self.pid), (folder / f"{name}.log").read_text()
            assert time.monotonic() < end, "it does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        self.processes.end(self.pid, signal.SIGKILL)

    def start(self, workflow: str, **params: Any) -> str:
        answer = self.client.post(
            f"/api/workflows/{workflow}/execute", json=params, headers={"prefer": "wait=0", "idempotency-key": "one"}
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run_id"])

    def run(self, run_id: str, wait: float = SECONDS) -> dict[str, Any]:
        return dict(self.client.get(f"/api/runs/{run_id}", params={"wait": wait}).json())

    def shows_steps(self, run_id: str, times: int) -> None:
        end = time.monotonic() + SECONDS
        while len(self.client.get(f"/api/runs/{run_id}/steps").json()["steps"]) < times:
            assert time.monotonic() < end
            time.sleep(0.02)

    def events(self, run_id: str) -> list[tuple[int, str, Any]]:
        text = self.client.get(f"/api/runs/{run_id}/events").text
        told = [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line.startswith("data:")]
        return [(event["number"], event["type"], event.get("data")) for event in told]


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkedProcesses]:
    forked = ForkedProcesses()
    yield forked
    forked.close()


@pytest.fixture(name="serve", params=["sqlite", "postgres"])
def serve_fixture(
    request: pytest.FixtureRequest, processes: ForkedProcesses, tmp_path: Path
) -> Iterator[Callable[[], Process]]:
    options = {"RUN_ENGINE": "dbos", "RUN_STORE": request.param}
    if request.param == "sqlite":
        options |= {"RUNS_SQLITE_PATH": str(tmp_path / "runs.db"), "DBOS_SQLITE_PATH": str(tmp_path / "dbos.db")}
    else:
        url, number = request.getfixturevalue("postgres_server").url, f"{os.getpid()}_{next(numbers)}"
        options |= {"RUNS_POSTGRES_URL": url, "RUNS_POSTGRES_SCHEMA": f"durable_runs_{number}"}
        options |= {"DBOS_POSTGRES_URL": url, "DBOS_POSTGRES_SCHEMA": f"durable_dbos_{number}"}
    (tmp_path / "app.py").write_text(APP)
    started: list[Process] = []

    def serve() -> Process:
        given = {f"NEXUS_{name}": value for name, value in options.items()}
        process = Process(processes, f"process{len(started)}", tmp_path, given)
        started.append(process)
        return process

    yield serve
    for process in started:
        process.client.close()
        process.kill()


def test_a_killed_process_loses_no_durable_run(serve: Any, tmp_path: Path) -> None:
    both = [serve(), serve()]
    run_id = both[0].start("order", item="tea")
    for number in range(2):
        (tmp_path / f"gate-{number}").touch()
    works = begun(tmp_path, 3)[-1][0]
    killed, left = both if both[0].pid == works else both[::-1]
    left.shows_steps(run_id, 3)  # what has happened is stored a moment later
    killed.kill()
    for number in range(2, STEPS):
        (tmp_path / f"gate-{number}").touch()
    run = left.run(run_id)
    assert (run["status"], run["result"]) == ("completed", ["tea", *range(STEPS)])
    steps = begun(tmp_path, STEPS + 1)
    assert [number for _, number in steps] == [0, 1, 2, 2, 3, 4]  # the one at work is repeated, finished ones are not
    assert {pid for pid, _ in steps[3:]} == {left.pid}
    assert left.events(run_id) == [
        (1, "workflow.queued", None),
        (2, "workflow.started", None),
        (3, "workflow.output", {"value": "begun"}),
        (4, "workflow.started", {"attempt": 2}),
        (5, "workflow.completed", None),
    ]


def test_a_question_outlives_every_process(serve: Any) -> None:
    first = serve()
    run_id = first.start("confirm")
    assert first.run(run_id)["status"] == "waiting"
    first.kill()
    second = serve()
    (question,) = second.client.get("/api/questions").json()["questions"]
    answered = second.client.post(f"/api/runs/{run_id}/questions/{question['number']}", json={"answer": "yes"})
    assert answered.status_code == 200
    end = time.monotonic() + SECONDS
    while (run := second.run(run_id))["status"] != "completed":
        assert time.monotonic() < end, run
        time.sleep(0.1)
    assert run["result"] == "yes"
