"""A gateway that takes calls, and workers of their own that do the work, one after the other."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from gated_steps import GATED, begun
from served_process import ServedProcess, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 60.0

APP = (
    GATED
    + """
@nexus.workflow(durable=True)
async def order(context: Context, item: str) -> list:
    return [item, *[await context.step(f"step {number}", do, number) for number in range(3)]]

@nexus.workflow(durable=True)
async def other() -> int:
    return 1
"""
)


class Site:
    """A gateway, and the workers that are started beside it."""

    def __init__(self, folder: Path) -> None:
        (folder / "app.py").write_text(APP)
        self.folder = folder
        self.options = {
            "NEXUS_RUN_ENGINE": "dbos", "NEXUS_DBOS_SQLITE_PATH": str(folder / "dbos.db"),
            "NEXUS_RUN_STORE": "sqlite", "NEXUS_RUNS_SQLITE_PATH": str(folder / "runs.db"),
        }  # fmt: skip
        self.gateway = ServedProcess(folder, ("api", "cli", "mcp"), options=self.options | {"NEXUS_RUN_WORK": "false"})
        self.client = httpx2.Client(base_url=self.gateway.url(), timeout=SECONDS)
        self.workers: list[ServedProcess] = []

    def worker(self, *arguments: str) -> ServedProcess:
        command = ("-m", "nexus_core", "worker", "app.py", *arguments)
        self.workers.append(ServedProcess(self.folder, ("health",), options=self.options, arguments=command))
        return self.workers[-1]

    def shown(self, run_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"/api/runs/{run_id}").json())


@pytest.fixture(name="site")
def site_fixture(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.client.close()
    for process in (site.gateway, *site.workers):
        process.end(signal.SIGKILL)


def test_workers_of_their_own(site: Site) -> None:
    answer = site.client.post("/api/workflows/order/execute", json={"item": "tea"}, headers={"prefer": "wait=0"})
    assert answer.status_code == 202, answer.text
    run_id = answer.json()["run_id"]
    waiting = site.shown(run_id)
    assert (waiting["status"], waiting["position"], waiting["waiting_for"]) == ("pending", 0, "no_worker")
    first = site.worker("--concurrency", "2", "--only", "order")
    assert begun(site.folder, 1) == [(first.process.pid, 0)]
    (site.folder / "gate-0").touch()
    begun(site.folder, 2)
    first.end(signal.SIGKILL)
    second = site.worker()
    for number in range(1, 3):
        (site.folder / f"gate-{number}").touch()
    run = site.client.get(f"/api/runs/{run_id}", params={"wait": SECONDS}).json()
    assert (run["status"], run["result"]) == ("completed", ["tea", 0, 1, 2])
    assert "waiting_for" not in run
    pid = second.process.pid
    assert begun(site.folder, 4) == [(first.process.pid, 0), (first.process.pid, 1), (pid, 1), (pid, 2)]
    ready = httpx2.get(f"{second.url('health')}/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert site.client.post("/api/workflows/other/execute", json={}).json()["result"] == 1
    assert second.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, [], "run_engine must be set"),
        ({"NEXUS_DURABLE_WORKFLOWS": "none"}, [], "A worker works on durable runs: set run_engine"),
        ({"NEXUS_RUN_STORE": "sqlite", "NEXUS_RUN_ENGINE": "dbos"}, ["--only", "oder"], "did you mean 'order'?"),
        ({}, ["--concurrency", "-1"], "--concurrency"),
    ],
)
def test_a_worker_without_work_is_refused(
    tmp_path: Path, options: dict[str, str], arguments: list[str], message: str
) -> None:
    (tmp_path / "app.py").write_text(APP)
    paths = {"NEXUS_DBOS_SQLITE_PATH": str(tmp_path / "dbos.db"), "NEXUS_RUNS_SQLITE_PATH": str(tmp_path / "runs.db")}
    done = subprocess.run(
        [sys.executable, "-m", "nexus_core", "worker", "app.py", *arguments], cwd=tmp_path,
        env=clean_environment() | paths | options, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
