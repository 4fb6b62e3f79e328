"""Work that computes: how many threads may, and processes that a time limit really ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import ConfigurationError, Context, Invocation, WorkflowFailed, WorkflowTimeout
from nexus_core.concurrency.threads import DaemonThreads
from nexus_core.concurrency.turns import Turns
from nexus_core.concurrency.worker_processes import WorkerProcesses

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import asyncio, os, sys, time
from nexus_core import Nexus, WorkflowError, WorkflowFailed, WorkflowTimeout, RunCancelled, Invocation

nexus = Nexus(discover=False, workflow_processes=1)

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)

@nexus.workflow(process=True)
def add(a: int, b: int = 2) -> dict:
    print("never on stdout")
    return {"sum": a + b, "pid": os.getpid()}

@nexus.workflow(process=True, timeout=300)
def burn():
    open("burning", "w").write(str(os.getpid()))
    while True:
        pass

@nexus.workflow(process=True)
def fail(how: str):
    if how == "workflow":
        raise WorkflowError("told")
    if how == "odd":
        raise Odd(1, 2)
    if how == "exit":
        sys.exit(3)
    if how == "gone":
        os._exit(7)
    if how == "unpicklable":
        return lambda: 1

async def gone(pid):
    for _ in range(200):
        try:
            os.kill(pid, 0)
            if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        await asyncio.sleep(0.05)

async def refused(name, kind, seconds=None, **params):
    try:
        await nexus.invoke(Invocation(name, params, timeout=seconds))
    except kind as exc:
        return str(exc)
    raise AssertionError("it was answered")

async def main():
    async with nexus:
        first = (await nexus.invoke("add", {"a": 1})).value
        again = (await nexus.invoke("add", {"a": 1, "b": 5})).value
        assert (first["sum"], again["sum"]) == (3, 6)
        assert first["pid"] == again["pid"] != os.getpid()
        assert await refused("fail", WorkflowError, how="workflow") == "told"
        for how in ("odd", "exit", "unpicklable"):
            await refused("fail", WorkflowFailed, how=how)
        assert (await nexus.invoke("add", {"a": 1})).value["pid"] == first["pid"]
        await refused("fail", WorkflowFailed, how="gone")
        assert (await nexus.invoke("add", {"a": 1})).value["pid"] != first["pid"]
        await refused("burn", WorkflowTimeout, 1)
        assert await gone(int(open("burning").read()))
        os.unlink("burning")
        run = nexus.submit(Invocation("burn", {}))
        while not os.path.exists("burning"):
            await asyncio.sleep(0.05)
        run.cancel()
        try:
            await run.outcome()
        except RunCancelled:
            pass
        assert await gone(int(open("burning").read() or "0"))
        last = (await nexus.invoke("add", {"a": 1})).value["pid"]
        pass
    assert await gone(last)
    print("fine")

GUARD
"""


@pytest.mark.parametrize("guard", ["if __name__ == '__main__':\n    asyncio.run(main())", "unguarded"])
def test_processes(tmp_path: Path, guard: str) -> None:
    if guard == "unguarded":  # a start that is not guarded starts nothing in the process
        guard = (
            "from multiprocessing import current_process\n"
            "if current_process().name == 'MainProcess':\n    asyncio.run(main())\n"
            "nexus.start()"
        )
    (tmp_path / "program.py").write_text(PROGRAM.replace("GUARD", guard))
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "fine\n", done.stderr
    for words in ("the process ended with exit code 7", "In the process:", "Odd", "SystemExit: 3"):
        assert words in done.stderr
    assert done.stderr.count("never on stdout") == 5


def test_a_process_ends_with_its_platform(tmp_path: Path) -> None:
    guard = """
if __name__ == "__main__":
    async def killed():
        async with nexus:
            nexus.submit(Invocation("burn", {}, timeout=None))
            while not os.path.exists("burning") or not open("burning").read():
                await asyncio.sleep(0.05)
            os.kill(os.getpid(), 9)
    asyncio.run(killed())
"""
    (tmp_path / "program.py").write_text(PROGRAM.replace("GUARD", guard))
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, timeout=120, check=False)
    pid = int((tmp_path / "burning").read_text())
    end = time.monotonic() + 20
    while _is_there(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def _agen() -> Any:
    yield 1


async def _async() -> int:
    return 1


def _with_context(context: Context) -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda: 1, "only a function of a module"), (_agen, "it is async"), (_async, "it is async"),
        (_with_context, "it takes a Context"),
    ],
)  # fmt: skip
def test_what_cannot_run_in_a_process_is_refused(make: Any, function: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        make().register("w", function, {"process": True})


def test_process_is_true_or_false(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be True or False"):
        make().register("w", os.getcwd, {"process": "yes"})


async def test_no_more_threads_compute_than_the_option_says(make: Any) -> None:
    nexus = make(workflow_threads=3)
    lock, at_work, most = threading.Lock(), 0, 0

    @nexus.workflow
    def work() -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1

    async with nexus:
        await asyncio.gather(*(nexus.invoke("work") for _ in range(30)))
        assert most == 3
        assert nexus.workflow_threads.waiting == 0


async def test_calls_that_a_thread_makes_do_not_wait_for_it(make: Any) -> None:
    nexus = make(workflow_threads=1)

    @nexus.workflow
    def outer() -> int:
        return 1 + int(asyncio.run(nexus.invoke("inner")).value)

    @nexus.workflow
    def inner() -> int:
        return 1

    async with nexus:
        results = await asyncio.wait_for(asyncio.gather(*(nexus.invoke("outer") for _ in range(5))), 60)
    assert [each.value for each in results] == [2] * 5


async def test_a_thread_that_goes_on_keeps_its_turn_and_who_waits_may_leave(make: Any) -> None:
    nexus = make(workflow_threads=1)
    may_end = threading.Event()
    nexus.register("stuck", may_end.wait, {"timeout": 0.1})
    nexus.register("work", lambda: 1, {"timeout": 0.2})
    async with nexus:
        with pytest.raises(WorkflowTimeout):
            await nexus.invoke("stuck")
        with pytest.raises(WorkflowTimeout):
            await nexus.invoke("work")
        async with asyncio.timeout(20):
            while nexus.workflow_threads.waiting:  # its caller was answered a little earlier
                await asyncio.sleep(0.01)
        may_end.set()
        assert (await nexus.invoke(Invocation("work", {}))).value == 1


async def test_a_turn_that_is_given_to_one_who_leaves_is_not_lost() -> None:
    turns = Turns(1)
    await turns.take()
    waiting = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    turns.give_back()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert turns.take_now()
    assert not turns.take_now()


async def test_a_machine_without_threads_takes_no_turn_for_good(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    nexus = make(workflow_threads=1)
    nexus.register("work", lambda: 1)
    async with nexus:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(WorkflowFailed):
                await nexus.invoke("work")
        assert nexus.workflow_threads.count == 0
        assert (await asyncio.wait_for(nexus.invoke("work"), 20)).value == 1


async def test_a_process_that_died_idle_or_was_left_at_once_is_not_used() -> None:
    processes = WorkerProcesses(DaemonThreads("test"), 1)
    try:
        first = await processes.run(os.getpid, [], {})
        os.kill(first, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, first, os.WEXITED | os.WNOWAIT)
        second = await processes.run(os.getpid, [], {})
        assert second != first
        left = asyncio.create_task(processes.run(os.getpid, [], {}))
        await asyncio.sleep(0)
        (worker,) = processes._busy
        worker.call = lambda *_: None  # type: ignore[method-assign]  (its thread has not begun)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert await processes.run(os.getpid, [], {}) != second
    finally:
        processes.close()
