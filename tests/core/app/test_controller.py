"""Starts and stops while work goes on: nested calls, stubborn code, other event loops, impatient callers."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from nexus_core import ConfigurationError, Invocation, Overloaded, Stage, WorkflowTimeout, hookimpl
from nexus_core.testing import eventually, stage_of, stages_of


class Counting:
    """Notes starts and stops; its start waits in a thread until it may go on."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.may_start = threading.Event()

    @hookimpl
    def nexus_startup(self) -> None:
        self.calls.append("start")
        self.may_start.wait(10)

    @hookimpl
    def nexus_shutdown(self) -> None:
        self.calls.append("stop")


class Listening:
    """A server that has no port to listen on."""

    name = "listening"

    async def serve(self, listeners: Any, started: asyncio.Event, stop: asyncio.Event) -> None:
        started.set()

    @hookimpl
    def nexus_register_servers(self) -> list[Any]:
        return [self]


async def test_running_work_may_call_workflows_while_the_platform_stops(make: Any) -> None:
    counting = Counting()
    counting.may_start.set()
    nexus = make(counting)
    gate, inside = asyncio.Event(), asyncio.Event()

    @nexus.workflow
    async def inner(n: int) -> int:
        return n + 1

    @nexus.workflow
    async def outer() -> list[int]:
        inside.set()
        await gate.wait()
        as_tasks = await asyncio.gather(*(nexus.invoke("inner", {"n": n}) for n in range(3)))
        from_thread = await asyncio.to_thread(lambda: asyncio.run(nexus.invoke("inner", {"n": 10})))
        return [each.value for each in (*as_tasks, from_thread)]

    async with nexus:
        admission = stage_of(nexus, Stage.ADMIT)
        call = asyncio.create_task(nexus.invoke("outer"))
        await inside.wait()
        stopping = asyncio.create_task(nexus.__aexit__(None, None, None))
        await eventually(lambda: not admission.is_open)
        with pytest.raises(Overloaded, match="shutting down"):
            await nexus.invoke("inner", {"n": 1})
        gate.set()
        assert (await call).value == [1, 2, 3, 11]
        await stopping
    assert counting.calls == ["start", "stop"]


async def test_what_a_finished_run_left_running_is_not_part_of_it(make: Any) -> None:
    nexus = make()
    gate, begun = asyncio.Event(), asyncio.Event()
    left: list[asyncio.Task[Any]] = []

    @nexus.workflow
    async def inner() -> int:
        return 1

    @nexus.workflow
    async def leaves() -> None:
        async def later() -> Any:
            await gate.wait()
            return await nexus.invoke("inner")

        left.append(asyncio.create_task(later()))

    @nexus.workflow
    async def holds() -> None:
        begun.set()
        await asyncio.wait(left)

    async with nexus:
        await nexus.invoke("leaves")
        call = asyncio.create_task(nexus.invoke("holds"))
        await begun.wait()
        stage_of(nexus, Stage.ADMIT).close()
        gate.set()
        await call
    assert isinstance(left[0].exception(), Overloaded)


async def test_the_grace_is_waited_for_once(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Before connections are closed; the stop of the platform itself finds that it was."""
    caplog.set_level(logging.INFO)
    nexus = make(Listening(), shutdown_grace=0.05)
    release = threading.Event()

    @nexus.workflow
    async def deaf() -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    async with nexus.serving():
        run = nexus.submit(Invocation("deaf", {}))
        await run.started_or_rejected()
    assert run.done
    release.set()
    assert [each.getMessage() for each in caplog.records if "abandoned" in each.getMessage()] == [
        "1 runs continue after their cancellation and are abandoned"
    ]


async def test_threads_that_timed_out_keep_their_places_and_delay_no_stop(make: Any) -> None:
    nexus = make(max_concurrent_workflows=4, shutdown_grace=30)
    release = threading.Event()

    @nexus.workflow(timeout=0.05)
    def blocks() -> None:
        release.wait(30)

    async with nexus:
        admission = stage_of(nexus, Stage.ADMIT)
        outcomes = await asyncio.gather(*(nexus.invoke("blocks") for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(each, WorkflowTimeout) for each in outcomes) == 4
        assert sum(isinstance(each, Overloaded) for each in outcomes) == 16
        for _ in range(20):  # the tasks end one after the other: none may free a place
            await asyncio.sleep(0)
            assert admission.in_use == 4
        with pytest.raises(Overloaded):
            await nexus.invoke("blocks")
        assert nexus.workflow_threads.count <= 4
        begin = time.monotonic()
    assert time.monotonic() - begin < 10  # not shutdown_grace
    release.set()
    await eventually(lambda: admission.in_use == 0)


async def test_cleaning_up_after_a_cancellation_is_not_cancelled_again(make: Any) -> None:
    nexus = make()
    begun, cleaned = asyncio.Event(), asyncio.Event()

    @nexus.workflow
    async def careful() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.5)  # longer than its caller is made to wait
            cleaned.set()

    async with nexus:
        run = nexus.submit(Invocation("careful", {}))
        await begun.wait()
        run.cancel()
        assert await run.wait(5)
        assert not cleaned.is_set()
    assert cleaned.is_set()  # the stop waited for it


async def test_a_caller_who_gives_up_does_not_break_the_start(make: Any) -> None:
    counting = Counting()
    nexus = make(counting)

    @nexus.workflow
    async def work() -> int:
        return 1

    impatient = asyncio.create_task(nexus.invoke("work"))
    await eventually(lambda: counting.calls == ["start"])
    impatient.cancel()
    patient = asyncio.create_task(nexus.invoke("work"))
    await asyncio.wait({impatient})
    assert impatient.cancelled()
    counting.may_start.set()
    assert (await patient).value == 1
    async with nexus:
        pass
    assert counting.calls == ["start", "stop"]


async def test_a_start_that_is_given_up_by_its_owner_is_undone(make: Any) -> None:
    counting = Counting()
    nexus = make(counting)
    entering = asyncio.create_task(nexus.__aenter__())
    await eventually(lambda: counting.calls == ["start"])
    entering.cancel()
    counting.may_start.set()
    await asyncio.wait({entering})
    assert entering.cancelled()
    assert counting.calls == ["start", "stop"]
    assert not stages_of(nexus)


async def test_a_stop_during_the_start_comes_after_it(make: Any) -> None:
    counting = Counting()
    nexus = make(counting)
    starting = asyncio.create_task(nexus.__aenter__())
    await eventually(lambda: counting.calls == ["start"])
    stopping = asyncio.create_task(nexus.__aexit__(None, None, None))
    await asyncio.sleep(0)
    counting.may_start.set()
    await asyncio.gather(starting, stopping)
    assert counting.calls == ["start", "stop"]
    assert not stages_of(nexus)


async def test_two_stops_at_once_are_one(make: Any) -> None:
    counting = Counting()
    counting.may_start.set()
    nexus = make(counting)
    async with nexus:
        await asyncio.gather(*(nexus.__aexit__(None, None, None) for _ in range(3)))
    assert counting.calls == ["start", "stop"]


async def test_limits_hold_for_calls_from_another_event_loop(make: Any) -> None:
    nexus = make()

    @nexus.workflow(timeout=0.1)
    async def hangs() -> None:
        await asyncio.Event().wait()

    @nexus.workflow
    def calls() -> str:
        """A sync workflow that runs an event loop of its own in its thread."""
        try:
            asyncio.run(nexus.invoke("hangs"))
        except WorkflowTimeout as exc:
            return exc.code
        return "none"

    async with nexus:
        assert (await nexus.invoke("calls")).value == "workflow_timeout"
        assert not nexus.runs.running()


async def test_a_caller_on_another_event_loop_who_leaves_cancels_the_run(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def hangs() -> None:
        await asyncio.Event().wait()

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await nexus.invoke("hangs")

    async with nexus:
        await asyncio.to_thread(asyncio.run, impatient())
        await eventually(lambda: [run.status for run in nexus.runs.find()] == ["cancelled"])


async def test_runs_are_not_submitted_from_another_event_loop(make: Any) -> None:
    nexus = make()

    async def submit() -> None:
        with pytest.raises(ConfigurationError, match="use invoke"):
            nexus.submit(Invocation("any", {}))

    async with nexus:
        await asyncio.to_thread(asyncio.run, submit())


async def test_a_run_is_cancelled_from_any_thread(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def hangs() -> None:
        await asyncio.Event().wait()

    async with nexus:
        run = nexus.submit(Invocation("hangs", {}))
        await run.started_or_rejected()
        assert await asyncio.to_thread(run.cancel)
        assert await run.wait(5)
        assert run.status == "cancelled"


def test_another_event_loop_that_is_open_is_named(make: Any) -> None:
    nexus = make()
    nexus.register("one", lambda: 1)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        assert first.run_until_complete(nexus.invoke("one")).value == 1
        with pytest.raises(ConfigurationError, match="another event loop"):
            second.run_until_complete(nexus.invoke("one"))
        assert first.run_until_complete(nexus.invoke("one")).value == 1
        first.close()
        assert second.run_until_complete(nexus.invoke("one")).value == 1
    finally:
        first.close()
        second.close()


def test_an_abandoned_thread_that_raises_as_the_loop_ends_is_nobodys_error(make: Any, caplog: Any) -> None:
    nexus = make(shutdown_grace=0)
    begun, may_raise, raised = threading.Event(), threading.Event(), threading.Event()

    @nexus.workflow
    def raises_late() -> None:
        begun.set()
        may_raise.wait(10)
        raised.set()
        raise OSError("late")

    async def main() -> None:
        async with nexus:
            nexus.submit(Invocation("raises_late", {}))
            await asyncio.to_thread(begun.wait)
        may_raise.set()
        raised.wait()
        time.sleep(0.05)  # holds the event loop up: what the thread tells it comes as it ends

    asyncio.run(main())
    gc.collect()
    assert "never retrieved" not in caplog.text
