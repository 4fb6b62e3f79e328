"""Copies of both files of a platform that is at work are a backup: another one, started on them, ends its runs."""

from __future__ import annotations

import signal
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from gated_steps import GATED, begun
from served_process import ServedProcess

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60.0

APP = (
    GATED
    + """
@nexus.workflow(durable=True)
async def order(context: Context, item: str) -> list:
    return [item, *[await context.step(f"step {number}", do, number) for number in range(3)]]

@nexus.workflow(durable=True)
async def greet(name: str) -> str:
    return f"Hello, {name}!"
"""
)


class Site:
    """A platform with its files in a folder, and a client of it."""

    def __init__(self, folder: Path, *gates: int) -> None:
        (folder / "app.py").write_text(APP)
        for number in gates:
            (folder / f"gate-{number}").touch()
        self.folder = folder
        options = {
            "NEXUS_RUN_ENGINE": "dbos", "NEXUS_DBOS_SQLITE_PATH": str(folder / "dbos.db"), "NEXUS_RUN_CONCURRENCY": "2",
            "NEXUS_RUN_STORE": "sqlite", "NEXUS_RUNS_SQLITE_PATH": str(folder / "runs.db"),
        }  # fmt: skip
        self.process = ServedProcess(folder, ("api", "cli", "mcp"), options=options)
        self.client = httpx2.Client(base_url=self.process.url(), timeout=SECONDS)

    def start(self, workflow: str, **params: Any) -> str:
        answer = self.client.post(f"/api/workflows/{workflow}/execute", json=params, headers={"prefer": "wait=0"})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run_id"])

    def run(self, run_id: str, wait: float = SECONDS) -> dict[str, Any]:
        return dict(self.client.get(f"/api/runs/{run_id}", params={"wait": wait}).json())

    def shows_steps(self, run_id: str, times: int) -> None:
        end = time.monotonic() + SECONDS
        while len(self.client.get(f"/api/runs/{run_id}/steps").json()["steps"]) < times:
            assert time.monotonic() < end
            time.sleep(0.02)

    def back_up(self, name: str, folder: Path) -> None:
        copied = folder / name
        with sqlite3.connect(self.folder / name) as database:
            database.execute("VACUUM INTO ?", (str(copied),))
        database.close()
        copied.chmod(0o600)

    def end(self) -> None:
        self.client.close()
        self.process.end(signal.SIGKILL)


@pytest.mark.timeout(180)
def test_a_backup_of_files_in_use(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    site = Site(first, 0)
    try:
        ended = site.start("greet", name="Ada")
        assert site.run(ended)["result"] == "Hello, Ada!"
        at_work = [site.start("order", item=item) for item in ("tea", "salt")]
        for run_id in at_work:
            site.shows_steps(run_id, 1)
        waits = site.start("order", item="rice")  # both places are taken
        site.back_up("runs.db", second)
        site.back_up("dbos.db", second)
    finally:
        site.end()
    site = Site(second, 0, 1, 2)
    try:
        assert site.run(ended)["result"] == "Hello, Ada!"
        results = [site.run(run_id)["result"] for run_id in [*at_work, waits]]
        assert results == [[item, 0, 1, 2] for item in ("tea", "salt", "rice")]
        again = [number for _, number in begun(second, 7)]
        assert sorted(again) == [0, 1, 1, 1, 2, 2, 2]  # step 0 of two runs was in the backup
    finally:
        site.end()
