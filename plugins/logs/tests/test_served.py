"""``nexus serve`` in a process of its own: what it writes to stderr, for programs and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal

import pytest
from served_process import ServedProcess

httpx2 = pytest.importorskip("httpx2")
for name in ("api", "cli", "hypercorn"):
    pytest.importorskip(f"nexus_{name}.plugin")

APP = """
import logging
import multiprocessing
import structlog
from nexus_core import Context, Nexus

nexus = Nexus(disabled_plugins=["auth", "cache", "mcp", "kailash", "metrics", "tracing", "health"])

@nexus.workflow
def greet(name: str, context: Context) -> str:
    context.log.info("greeting %s", name)
    logging.getLogger("lib").warning("from a library")
    structlog.get_logger("mine").info("structured", rows=3)
    return f"hello {name}"

def work(text):
    logging.getLogger("child").info("in a process: %s", text)

@nexus.workflow
def fork(text: str) -> int:
    child = multiprocessing.get_context("fork").Process(target=work, args=(text,))
    child.start()
    child.join()
    return child.exitcode

@nexus.workflow
def flood(count: int) -> int:
    for number in range(count):
        logging.getLogger("flood").info("x" * 1000)
    return count
"""


class Served(ServedProcess):
    def call(self, workflow, **params):
        return httpx2.post(f"{self.url()}/api/workflows/{workflow}/execute", json=params, timeout=20)

    def stop(self):
        assert self.end() == 0


@pytest.fixture(name="serve")
def serve_fixture(tmp_path):
    tmp_path.joinpath("app.py").write_text(APP)
    started = []

    def serve(output, **options):
        started.append(Served(tmp_path, ("api", "cli"), options=options, output=output))
        return started[-1]

    yield serve
    for each in started:
        each.end(signal.SIGKILL)


def test_every_line_is_json(serve, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        served = serve(log, NEXUS_LOG_FORMAT="json")
        assert served.call("greet", name="a\nb").json()["result"] == "hello a\nb"
        run_id = served.call("greet", name="c").json()["run_id"]
        assert served.call("greet").status_code == 422
        served.stop()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert lines[0]["message"].startswith("Listening on ")
    assert lines[-1]["message"] == "Stopping"
    own = [line for line in lines if line.get("run_id") == run_id]
    assert [line["logger"] for line in own] == ["nexus.workflow", "lib", "mine", "nexus.calls"]
    assert [line["level"] for line in own] == ["info", "warning", "info", "info"]
    assert own[2].items() >= {"message": "structured", "rows": 3, "workflow": "greet"}.items()
    calls = [line["verdict"] for line in lines if line["logger"] == "nexus.calls"]
    assert calls == ["completed", "completed", "refused"]


def test_processes_that_workflows_fork_write_too(serve, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        served = serve(log, NEXUS_LOG_FORMAT="json")
        assert served.call("fork", text="a").json()["result"] == 0
        served.stop()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (line,) = [line for line in lines if line["logger"] == "child"]
    assert (line["message"], line["workflow"]) == ("in a process: a", "fork")
    assert len([line for line in lines if line["message"].startswith("Listening")]) == 2


def test_a_level_leaves_out_what_is_below(serve, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        served = serve(log, NEXUS_LOG_FORMAT="json", NEXUS_LOG_LEVEL="warning")
        served.call("greet", name="a")
        served.stop()
    assert [json.loads(line)["logger"] for line in (tmp_path / "log").read_text().splitlines()] == ["lib"]


def read_terminal(descriptor, seconds=1.0):
    shown = b""
    while select.select([descriptor], [], [], seconds)[0]:
        try:
            data = os.read(descriptor, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    return shown.decode()


def test_a_terminal_is_quiet(serve):
    ours, theirs = pty.openpty()
    served = serve(theirs)
    os.close(theirs)
    assert served.call("greet", name="a").status_code == 200
    served.stop()
    shown = read_terminal(ours)
    os.close(ours)
    loggers = [line.split()[3].rstrip(":") for line in shown.splitlines()]
    assert "nexus.calls" not in loggers
    assert set(loggers) == {"nexus_core.app.standalone", "nexus.workflow", "lib", "mine"}
    assert "mine: structured rows=3 [run " in shown


def test_a_reader_that_does_not_read_stops_nobody(serve):
    ours, theirs = os.pipe()
    served = serve(theirs, NEXUS_LOG_FORMAT="json")
    os.close(theirs)
    assert served.call("flood", count=2000).json()["result"] == 2000  # 2 MB, and a pipe takes 64 KB
    assert served.call("greet", name="a").json()["result"] == "hello a"
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(20) == 0
    os.close(ours)
