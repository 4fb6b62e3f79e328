"""Execution at its edges: wished time limits, the largest result, and how a run that does not go well is told."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from nexus_core import Context, Invocation, MalformedRequest, RunCancelled, WorkflowFailed, WorkflowTimeout, hookimpl
from nexus_core.testing import eventually


class Hears:
    """Notes the events of runs."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    @hookimpl
    def nexus_register_event_handlers(self) -> list[Any]:
        return [self.events.append]

    def last(self, kind: str) -> Any:
        return next((each for each in self.events if each.type == kind), None)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e12])
async def test_a_time_limit_that_is_none_is_refused(make: Any, timeout: float) -> None:
    nexus = make()
    ran: list[int] = []
    nexus.register("work", lambda: ran.append(1))
    with pytest.raises(MalformedRequest, match="timeout must be a number of seconds, above 0 and at most"):
        await nexus.invoke(Invocation("work", {}, timeout=timeout))
    assert not ran


async def test_the_code_sees_how_long_it_may_go_on(make: Any) -> None:
    nexus = make(workflow_timeout=None)

    @nexus.workflow
    async def remaining(context: Context) -> float | None:
        return context.remaining

    assert 50 < (await nexus.invoke(Invocation("remaining", {}, timeout=60))).value <= 60
    assert (await nexus.invoke("remaining")).value is None


async def test_the_largest_result_is_as_large_as_the_option_says(make: Any) -> None:
    nexus = make(max_result_bytes=1000)
    nexus.register("text", lambda size: "x" * size)
    assert len((await nexus.invoke("text", {"size": 998})).json) == 1000
    with pytest.raises(WorkflowFailed, match="1001 bytes; max_result_bytes is 1000"):
        await nexus.invoke("text", {"size": 999})


async def test_a_thread_that_is_out_of_time_sees_that_it_shall_stop(make: Any) -> None:
    nexus = make()
    stopped = threading.Event()

    @nexus.workflow(timeout=0.05)
    def loops(context: Context) -> None:
        for _ in range(2000):
            if context.cancelled:
                return stopped.set()
            stopped.wait(0.005)

    with pytest.raises(WorkflowTimeout):
        await nexus.invoke("loops")
    await eventually(stopped.is_set)


async def test_what_fails_after_its_time_is_logged(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    nexus = make()

    @nexus.workflow(timeout=0.05)
    async def fails_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("too late")

    @nexus.workflow(timeout=0.05)
    async def stops() -> None:
        await asyncio.Event().wait()

    def late() -> list[Any]:
        return [each for each in caplog.records if "had timed out raised an exception" in each.getMessage()]

    for name in ("stops", "fails_late"):
        with pytest.raises(WorkflowTimeout):
            await nexus.invoke(name)
    await eventually(late)
    assert [str(each.exc_info[1]) for each in late()] == ["too late"]


async def test_a_cancelled_run_is_told_as_cancelled(make: Any) -> None:
    hears = Hears()
    nexus = make(hears)
    began = asyncio.Event()

    @nexus.workflow
    async def waits() -> None:
        began.set()
        await asyncio.Event().wait()

    async with nexus:
        run = nexus.submit(Invocation("waits", {}))
        await began.wait()
        run.cancel()
        with pytest.raises(RunCancelled):
            await run.outcome()
        await eventually(lambda: hears.last("workflow.cancelled"))
        assert hears.last("workflow.failed") is None
        assert hears.last("workflow.cancelled").run_id == run.id


async def test_the_run_of_a_caller_who_left_is_told_as_cancelled(make: Any) -> None:
    hears = Hears()
    nexus = make(hears)
    began = asyncio.Event()

    @nexus.workflow
    async def waits() -> None:
        began.set()
        await asyncio.Event().wait()

    async with nexus:
        call = asyncio.create_task(nexus.invoke("waits"))
        await began.wait()
        (run,) = nexus.runs.running()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        await eventually(lambda: hears.last("workflow.cancelled"))
        assert (run.status, run.error.code) == ("cancelled", "run_cancelled")
        assert run.error.message == "The caller disconnected."
