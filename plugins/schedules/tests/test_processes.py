"""Two served processes, which share a run store and not the state of schedules, and are looked at with the command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from urllib.request import Request, urlopen

import pytest
from served_process import ServedProcess, clean_environment

APP = """
import itertools, time
import nexus_schedules.scheduler as scheduler
from nexus_core import Nexus

# Five minutes pass in each second, from a minute that both processes take from the same clock.
began = {began}
scheduler.Scheduler.__init__.__defaults__ = (lambda: 1_800_000_000 + (time.time() - began) * 300,)
scheduler.TICK_SECONDS = 0.1
nexus = Nexus()


@nexus.schedule("*/10 * * * *", name="often", params={{"n": 3}})
@nexus.workflow
def tidy(n: int) -> int:
    return n
"""


@pytest.fixture
def processes(tmp_path):
    (tmp_path / "app.py").write_text(APP.format(began=time.time()))
    options = {
        "NEXUS_RUN_STORE": "sqlite", "NEXUS_RUNS_SQLITE_PATH": str(tmp_path / "runs.db"),
        "NEXUS_DISABLED_PLUGINS": "mcp,dbos",
    }  # fmt: skip
    started = [ServedProcess(tmp_path, ("api", "cli"), options=options) for _ in range(2)]
    yield started
    for each in started:
        each.end()


def get(process, path, method="GET"):
    with urlopen(Request(process.url() + path, method=method), timeout=30) as response:
        return json.loads(response.read())


def test_each_time_is_started_once(processes):
    end, found, last = time.monotonic() + 50, [], [None, None]
    while time.monotonic() < end:
        last = [get(each, "/api/schedules")["schedules"][0]["last"] for each in processes]
        found = [run["run_id"] for run in get(processes[0], "/api/runs?workflow=tidy")["runs"]]
        if all(last) and len(found) >= 3:
            break
        time.sleep(0.1)
    assert all(last), (last, found)
    assert len(found) >= 3
    due = [run_id[:12] for run_id in found]
    assert len({*due}) == len(due)
    paused = command(processes[0], "pause", "often")
    assert paused["paused"]
    assert [each["name"] for each in command(processes[0], "list")["schedules"]] == ["often"]
    assert command(processes[0], "run-now", "often")["run_id"]


def command(process, *words):
    done = subprocess.run(
        [sys.executable, "-m", "nexus_core", "--json", "--connect", process.url("cli"), "schedules", *words],
        env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
