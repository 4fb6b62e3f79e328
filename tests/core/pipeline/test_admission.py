"""Admission: how many calls are worked on at once, and what those are told that are not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nexus_core import Overloaded, Stage
from nexus_core.testing import stage_of


@pytest.fixture(name="nexus")
def nexus_fixture(make: Any) -> Any:
    nexus = make(max_concurrent_workflows=2)
    nexus.gate, nexus.begun = asyncio.Event(), 0

    @nexus.workflow
    async def waits() -> None:
        nexus.begun += 1
        await nexus.gate.wait()

    return nexus


async def test_as_many_as_the_limit_are_taken_and_the_next_is_told_when_to_come_back(nexus: Any) -> None:
    async with nexus:
        calls = [asyncio.create_task(nexus.invoke("waits")) for _ in range(3)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = [each.exception() for each in done]
        assert isinstance(refused, Overloaded)
        assert (refused.status, refused.retry_after) == (503, 1)
        assert "max_concurrent_workflows (2)" in refused.message
        assert (nexus.begun, stage_of(nexus, Stage.ADMIT).in_use) == (2, 2)
        nexus.gate.set()
        await asyncio.wait(calls)
        await nexus.invoke("waits")
        assert stage_of(nexus, Stage.ADMIT).in_use == 0


async def test_once_it_is_closed_callers_are_told_to_come_back_and_work_ends(nexus: Any) -> None:
    async with nexus:
        call = asyncio.create_task(nexus.invoke("waits"))
        admission = stage_of(nexus, Stage.ADMIT)
        while not admission.in_use:
            await asyncio.sleep(0)
        admission.close()
        with pytest.raises(Overloaded, match="shutting down") as refused:
            await nexus.invoke("waits")
        assert refused.value.retry_after == 1
        idle = asyncio.create_task(admission.idle())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not idle.done()
        nexus.gate.set()
        await call
        await asyncio.wait_for(idle, 10)


async def test_closed_without_work_it_is_idle_at_once(nexus: Any) -> None:
    async with nexus:
        admission = stage_of(nexus, Stage.ADMIT)
        admission.close()
        await asyncio.wait_for(admission.idle(), 10)
