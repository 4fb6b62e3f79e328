"""Calls from threads: each with an event loop that comes and goes, or with none."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nexus_core import ConfigurationError, Context, hookimpl
from nexus_core.errors import RunCancelled, ValidationError, WorkflowFailed


class Counting:
    """Notes starts and stops."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.loops: set[Any] = set()

    @hookimpl
    async def nexus_startup(self) -> None:
        await asyncio.sleep(0.01)
        self.calls.append("start")
        self.loops.add(asyncio.get_running_loop())

    @hookimpl
    async def nexus_shutdown(self) -> None:
        self.calls.append("stop")


@pytest.fixture(name="plugin")
def plugin_fixture() -> Counting:
    return Counting()


@pytest.fixture(name="nexus")
def nexus_fixture(make: Any, plugin: Counting) -> Any:
    nexus = make(plugin)

    @nexus.workflow
    async def work(number: int = 1, seconds: float = 0.0) -> int:
        await asyncio.sleep(seconds)
        return number

    @nexus.workflow
    def calls_others(number: int) -> int:
        return nexus.invoke_sync("work", {"number": number}).value + asyncio.run(nexus.invoke("work")).value

    @nexus.workflow
    async def blocks(context: Context) -> int:
        return nexus.invoke_sync("work").value

    yield nexus
    nexus.stop()
    for each in own_loops():
        each.join(10)
    assert not own_loops()


def own_loops() -> list[threading.Thread]:
    """The threads with event loops that platforms have made for themselves."""
    return [each for each in threading.enumerate() if each.name == "nexus-loop"]


def in_threads(count: int, call: Any) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(call, number) for number in range(count)]
        return [future.result(30) for future in futures]


def test_threads_with_an_event_loop_for_each_call(nexus: Any, plugin: Counting) -> None:
    def call(number: int) -> list[int]:
        return [asyncio.run(nexus.invoke("work", {"number": number, "seconds": number / 500})).value for _ in range(10)]

    assert in_threads(8, call) == [[number] * 10 for number in range(8)]
    assert plugin.calls == ["start"]


def test_threads_without_event_loops(nexus: Any, plugin: Counting) -> None:
    def call(number: int) -> list[int]:
        return [nexus.invoke_sync("work", {"number": number}).value for _ in range(10)]

    assert in_threads(8, call) == [[number] * 10 for number in range(8)]
    assert plugin.calls == ["start"]
    with pytest.raises(ValidationError):
        nexus.invoke_sync("work", {"number": "x"})


def test_both_kinds_and_the_main_thread_share_one_platform(nexus: Any, plugin: Counting) -> None:
    def call(number: int) -> int:
        params = {"number": number}
        return (nexus.invoke_sync if number % 2 else lambda *call: asyncio.run(nexus.invoke(*call)))(
            "work", params
        ).value

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(call, number) for number in range(60)]
        assert nexus.invoke_sync("work", {"number": 60}).value == 60
        assert asyncio.run(nexus.invoke("work", {"number": 61})).value == 61
        assert [future.result(30) for future in futures] == [*range(60)]
    assert plugin.calls == ["start"]


def test_a_sync_workflow_calls_others(nexus: Any) -> None:
    assert nexus.invoke_sync("calls_others", {"number": 4}).value == 5
    assert in_threads(4, lambda number: nexus.invoke_sync("calls_others", {"number": number}).value) == [1, 2, 3, 4]


def test_a_running_event_loop_is_not_blocked(nexus: Any) -> None:
    async def call() -> None:
        with pytest.raises(ConfigurationError, match=r"would block the event loop .* await nexus\.invoke\(\)"):
            nexus.invoke_sync("work")

    asyncio.run(call())
    with pytest.raises(WorkflowFailed):  # what it raises stays inside
        nexus.invoke_sync("blocks")


async def test_a_platform_that_is_served_elsewhere_takes_them(nexus: Any, plugin: Counting) -> None:
    async with nexus:
        calls = [asyncio.to_thread(nexus.invoke_sync, "work", {"number": number}) for number in range(5)]
        runs = [asyncio.to_thread(lambda: asyncio.run(nexus.invoke("work")).value) for _ in range(5)]
        assert [result.value for result in await asyncio.gather(*calls)] == [*range(5)]
        assert await asyncio.gather(*runs) == [1] * 5
    assert plugin.loops == {asyncio.get_running_loop()}
    assert plugin.calls == ["start", "stop"]


def test_whoever_starts_it_elsewhere_ends_the_one_of_the_threads(nexus: Any, plugin: Counting) -> None:
    nexus.invoke_sync("work")
    (own,) = own_loops()

    async def serve() -> int:
        async with nexus:
            return (await nexus.invoke("work", {"number": 5})).value

    assert asyncio.run(serve()) == 5
    own.join(10)
    assert not own.is_alive()
    assert plugin.calls == ["start", "stop", "start", "stop"]
    assert nexus.invoke_sync("work", {"number": 6}).value == 6


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_under_way_when_the_other_event_loop_ends_is_refused_in_words(nexus: Any, kind: str) -> None:
    came: list[BaseException] = []

    def call() -> None:
        params = {"seconds": 60}
        try:
            if kind == "sync":
                nexus.invoke_sync("work", params)
            else:
                asyncio.run(nexus.invoke("work", params))
        except BaseException as exc:
            came.append(exc)

    thread = threading.Thread(target=call)

    async def main() -> None:
        await nexus.invoke("work")
        thread.start()
        while not nexus.runs.running():
            await asyncio.sleep(0.01)

    asyncio.run(main())
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(came[0], RunCancelled), came
    assert "has ended before the call" in str(came[0])
    assert nexus.invoke_sync("work", {"number": 7}).value == 7


def test_leaving_cancels_the_run(nexus: Any) -> None:
    async def impatient() -> None:
        async with asyncio.timeout(0.2):
            await nexus.invoke("work", {"seconds": 60})

    def call(_: int) -> None:
        with pytest.raises(TimeoutError):
            asyncio.run(impatient())

    in_threads(2, call)
    end = time.monotonic() + 10
    while nexus.runs.running() and time.monotonic() < end:
        time.sleep(0.01)
    assert not nexus.runs.running()


PROGRAM = """
import asyncio, os, sys, threading
from nexus_core import Nexus, hookimpl

class Plugin:
    @hookimpl
    async def nexus_shutdown(self):
        await asyncio.sleep(0.1)
        print("stopped", flush=True)

nexus = Nexus(discover=False, plugins=[Plugin()], shutdown_grace=0.1)
nexus.register("add", lambda a, b: a + b)

@nexus.workflow
async def wait(seconds: float) -> None:
    await asyncio.sleep(seconds)

"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + program], capture_output=True, text=True, timeout=60
    )


def test_a_process_that_ends_stops_the_platform() -> None:
    done = run("print(nexus.invoke_sync('add', {'a': 1, 'b': 2}).value, flush=True)")
    assert (done.stdout.split(), done.stderr, done.returncode) == (["3", "stopped"], "", 0)


def test_a_process_that_ends_does_not_wait_for_calls_for_ever() -> None:
    done = run("""
threading.Thread(target=nexus.invoke_sync, args=("wait", {"seconds": 500}), daemon=True).start()
while not nexus.runs.running():
    pass
""")
    assert (done.stdout.split(), done.returncode) == (["stopped"], 0), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_starts_its_own() -> None:
    done = run("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
print(nexus.invoke_sync("add", {"a": 1, "b": 2}).value, flush=True)
child = os.fork()
value = nexus.invoke_sync("add", {"a": 3, "b": 4}).value
if child == 0:
    print("child", value, flush=True)
    os._exit(0)
os.waitpid(child, 0)
""")
    assert (done.stdout.split(), done.returncode) == (["3", "child", "7", "stopped"], 0), done.stderr


async def test_a_thread_that_serves_takes_over_from_the_event_loop_that_only_called(
    nexus: Any, plugin: Counting
) -> None:
    """As in a notebook, whose event loop never ends: a call, then serving in a thread, then calls again."""
    assert (await nexus.invoke("work", {"number": 1})).value == 1
    entered, leave = threading.Event(), threading.Event()

    async def serve() -> None:
        async with nexus:
            entered.set()
            await asyncio.to_thread(leave.wait, 30)

    serving = asyncio.create_task(asyncio.to_thread(asyncio.run, serve()))
    assert await asyncio.to_thread(entered.wait, 30)
    assert plugin.calls == ["start", "stop", "start"]
    assert (await nexus.invoke("work", {"number": 2})).value == 2
    assert plugin.calls == ["start", "stop", "start"], "the thread's platform has taken the call"
    leave.set()
    await serving
    assert (await nexus.invoke("work", {"number": 3})).value == 3
    await nexus.__aexit__()


async def test_a_platform_that_somebody_has_entered_is_not_taken_over(nexus: Any, plugin: Counting) -> None:
    async def serve() -> None:
        async with nexus:
            raise AssertionError

    async with nexus:
        with pytest.raises(ConfigurationError, match="started on another event loop: stop it there first"):
            await asyncio.to_thread(asyncio.run, serve())
        assert (await nexus.invoke("work")).value == 1
    assert plugin.calls == ["start", "stop"]


AT_THE_END = """
import threading
from nexus_core import Nexus, hookimpl

class Plugin:
    @hookimpl
    def nexus_shutdown(self):
        print("shut down", flush=True)

nexus = Nexus(discover=False, plugins=[Plugin()])
nexus.register("work", lambda: "worked")
print(nexus.invoke_sync("work").value, flush=True)
nexus.threads.rest()  # as after a while without work

def refuse(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")
threading.Thread.start = refuse  # as Python 3.12 does from here on
"""


def test_sync_hooks_are_called_at_the_end_of_the_process_although_no_thread_can_be_started() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("worked\nshut down\n", 0), done.stderr
    assert "RuntimeError" not in done.stderr
