"""`Nexus.invoke_within`: the result if it comes in time, else the run, which goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nexus_core import Invocation, Result, Run, Stage, ValidationError, WorkflowError, hookimpl
from nexus_core.concurrency.timers import TICK
from nexus_core.testing import eventually


@pytest.fixture(name="nexus")
async def nexus_fixture(make: Any) -> Any:
    nexus = make()
    nexus.gate, nexus.ended = asyncio.Event(), []

    @nexus.workflow
    async def wait(fail: bool = False) -> str:
        try:
            await nexus.gate.wait()
        except asyncio.CancelledError:
            nexus.ended.append("cancelled")
            raise
        if fail:
            raise WorkflowError("no")
        return "there"

    async with nexus:
        yield nexus


async def test_a_result_in_time_is_not_kept(nexus: Any) -> None:
    nexus.gate.set()
    result = await nexus.invoke_within(Invocation("wait", {}), 30)
    assert isinstance(result, Result)
    assert result.value == "there"
    assert nexus.runs.get(result.run_id).result is None
    with pytest.raises(WorkflowError):
        await nexus.invoke_within(Invocation("wait", {"fail": True}), 30)


@pytest.mark.parametrize("seconds", [0, 0.1])
async def test_a_run_that_goes_on_keeps_its_result(nexus: Any, seconds: float) -> None:
    run = await nexus.invoke_within(Invocation("wait", {}), seconds)
    assert isinstance(run, Run)
    assert str(run.status) == "running"
    nexus.gate.set()
    assert (await run.outcome()).value == "there"
    failing = Invocation("wait", {"fail": True})
    nexus.gate.clear()
    run = await nexus.invoke_within(failing, seconds)
    nexus.gate.set()
    with pytest.raises(WorkflowError):
        await run.outcome()
    await eventually(lambda: not nexus._dispatcher._left_behind)


async def test_refusals_come_at_once(nexus: Any) -> None:
    with pytest.raises(ValidationError):
        await nexus.invoke_within(Invocation("wait", {"unknown": 1}), 0)


async def test_a_caller_who_leaves_cancels_the_run_unless_it_gave_a_key(nexus: Any) -> None:
    for key in (None, "key"):
        call = asyncio.create_task(nexus.invoke_within(Invocation("wait", {}, idempotency_key=key), 30))
        await eventually(lambda: nexus.runs.running())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        if key is None:
            await eventually(lambda: not nexus.runs.running())
            await eventually(lambda: nexus.ended == ["cancelled"])
    nexus.gate.set()
    await eventually(lambda: not nexus.runs.running())
    assert nexus.ended == ["cancelled"]
    again = await nexus.invoke(Invocation("wait", {}, idempotency_key="key"))
    assert (again.value, again.replayed) == ("there", True)


async def test_a_run_that_was_returned_can_be_cancelled(nexus: Any) -> None:
    run = await nexus.invoke_within(Invocation("wait", {}), 0)
    run.cancel()
    await run.wait()
    assert str(run.status) == "cancelled"


async def test_an_answer_that_comes_late_and_without_a_run_comes(make: Any) -> None:
    class Replay:
        stage = Stage.BREAKER

        async def __call__(self, invocation: Invocation, call_next: Any) -> Result:
            await released.wait()
            return Result(b'"kept"', invocation.run.id)

    class Plugin:
        @hookimpl
        def nexus_register_interceptors(self) -> list[Any]:
            return [Replay()]

    released = asyncio.Event()
    nexus = make(Plugin())
    nexus.register("work", lambda: 1)
    async with nexus, asyncio.timeout(20):
        call = asyncio.create_task(nexus.invoke_within(Invocation("work", {}), 0))
        await asyncio.sleep(3 * TICK)  # its patience has ended before the answer comes
        released.set()
        assert (await call).value == "kept"
