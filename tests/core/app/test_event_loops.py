"""One platform on several event loops, one after the other, stopped in between or not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nexus_core import Invocation, WorkflowTimeout, hookimpl


class Counting:
    """Notes what is called, and gives an event handler."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.events: list[str] = []

    @hookimpl
    async def nexus_startup(self) -> None:
        self.calls.append("start")
        await asyncio.sleep(0.01)

    @hookimpl
    async def nexus_shutdown(self) -> None:
        self.calls.append("stop")

    @hookimpl
    def nexus_register_event_handlers(self) -> list[Any]:
        return [lambda event: self.events.append(event.type)]


@pytest.fixture(name="plugin")
def plugin_fixture() -> Counting:
    return Counting()


@pytest.fixture(name="nexus")
def nexus_fixture(make: Any, plugin: Counting) -> Any:
    nexus = make(plugin)

    @nexus.workflow
    async def work() -> int:
        await asyncio.sleep(0)
        return 1

    return nexus


async def at_once(nexus: Any) -> list[int]:
    return [result.value for result in await asyncio.gather(*(nexus.invoke("work") for _ in range(5)))]


async def stopped(nexus: Any) -> list[int]:
    async with nexus:
        return await at_once(nexus)


def test_calls_at_once_start_the_platform_once(nexus: Any, plugin: Counting) -> None:
    assert asyncio.run(at_once(nexus)) == [1] * 5
    assert plugin.calls == ["start"]


def test_loops_that_end_without_a_stop(nexus: Any, plugin: Counting) -> None:
    for _ in range(3):
        assert asyncio.run(at_once(nexus)) == [1] * 5
    assert plugin.calls == ["start"] * 3
    nexus.register("other", lambda: 2)
    assert asyncio.run(nexus.invoke("other")).value == 2


def test_each_event_is_delivered_once_after_a_loop_that_ended_without_a_stop(nexus: Any, plugin: Counting) -> None:
    asyncio.run(at_once(nexus))
    plugin.events.clear()
    asyncio.run(stopped(nexus))
    assert plugin.events.count("workflow.completed") == 5
    assert plugin.calls == ["start", "start", "stop"]


def test_handlers_of_the_application_outlive_a_loop_that_was_closed_under_them(nexus: Any) -> None:
    seen: list[str] = []

    async def handle(event: Any) -> None:
        seen.append(event.type)
        await asyncio.sleep(0.2)

    nexus.register_event_handler(handle)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(at_once(nexus))
    loop.set_exception_handler(lambda *_: None)
    loop.close()
    seen.clear()
    asyncio.run(nexus.invoke("work"))
    assert "workflow.started" in seen


def test_several_loops_with_stops(nexus: Any, plugin: Counting) -> None:
    assert [asyncio.run(stopped(nexus)) for _ in range(3)] == [[1] * 5] * 3
    assert plugin.calls == ["start", "stop"] * 3


def test_a_start_that_is_cancelled_can_be_repeated(nexus: Any, plugin: Counting) -> None:
    async def impatient() -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await nexus.invoke("work")
        return await stopped(nexus)

    assert asyncio.run(impatient()) == [1] * 5
    assert plugin.calls[-2:] == ["start", "stop"]


def test_time_limits_count_on_an_event_loop_that_follows_one_not_closed(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(seconds: float) -> None:
        async with nexus:
            await nexus.invoke(Invocation("wait", {"seconds": seconds}, timeout=0.2))

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(call(0))
        with pytest.raises(WorkflowTimeout):
            second.run_until_complete(call(20))
    finally:
        first.close()
        second.close()
