"""Code of users and plugins breaks nothing but its own call: not the event loop, the process or its neighbours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import Invocation, NexusError, Stage, WorkflowTimeout
from nexus_core.concurrency.timers import Timers
from nexus_core.testing import stage_of

if TYPE_CHECKING:
    from nexus_core import ChannelEvent

ENDS = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(), MemoryError()]


@pytest.mark.parametrize("exception", ENDS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_event_handlers(make: Any, exception: BaseException, kind: str) -> None:
    nexus = make()
    taken: list[str] = []
    neighbour: list[str] = []

    def handle(event: ChannelEvent) -> None:
        taken.append(event.type)
        raise exception

    async def handle_later(event: ChannelEvent) -> None:
        handle(event)

    nexus.register_event_handler(handle if kind == "sync" else handle_later)
    nexus.register_event_handler(lambda event: neighbour.append(event.type))
    nexus.register("w", lambda: 1)
    async with nexus:
        assert (await nexus.invoke("w")).value == 1
    expected = ["workflow.registered", "workflow.started", "workflow.completed"]
    assert neighbour == expected
    assert taken == expected


@pytest.mark.parametrize("exception", ENDS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_parameter_resolvers(make: Any, exception: BaseException, kind: str) -> None:
    nexus = make()

    class Resolver:
        def resolve_parameters(self, workflow_name: str, channel: str, raw_params: dict[str, Any]) -> Any:
            raise exception

    class AsyncResolver:
        async def resolve_parameters(self, workflow_name: str, channel: str, raw_params: dict[str, Any]) -> Any:
            raise exception

    nexus.register_parameter_resolver(Resolver() if kind == "sync" else AsyncResolver())
    nexus.register("w", lambda: 1)
    with pytest.raises(NexusError) as caught:
        await nexus.invoke("w")
    assert caught.value.code == "internal_error"
    run = nexus.submit(Invocation("w", {}))
    assert await run.wait(5)
    assert run.status == "failed"
    assert stage_of(nexus, Stage.ADMIT).in_use == 0


async def test_a_timer_that_raises_does_not_silence_the_others() -> None:
    timers = Timers()
    rung: list[int] = []
    second = asyncio.Event()

    def broken() -> None:
        raise RuntimeError("broken")

    timers.schedule(0, broken)
    timers.schedule(0, lambda: rung.append(1))
    timers.schedule(0.1, second.set)
    await asyncio.wait_for(second.wait(), 5)
    assert rung == [1]
    second.clear()
    timers.schedule(0, second.set)
    await asyncio.wait_for(second.wait(), 5)


def test_time_limits_hold_after_an_event_loop_that_was_abandoned(make: Any) -> None:
    nexus = make()

    @nexus.workflow(timeout=0.1)
    async def hangs() -> None:
        await asyncio.Event().wait()

    async def abandon() -> None:
        asyncio.get_running_loop().create_task(nexus.invoke("hangs"))
        await asyncio.sleep(0.01)

    async def call() -> None:
        await nexus.invoke("hangs")

    asyncio.run(abandon())
    with pytest.raises(WorkflowTimeout):
        asyncio.run(asyncio.wait_for(call(), 5))
