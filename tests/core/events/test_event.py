from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from nexus_core import Context, Invocation
from nexus_core.runs.context import current_run

if TYPE_CHECKING:
    from nexus_core import ChannelEvent


async def test_handlers_get_events_in_order_apart_from_the_call(make: Any) -> None:
    nexus = make()
    slow, quick, done = [], [], asyncio.Event()
    gate = threading.Event()

    def slow_handler(event: ChannelEvent) -> None:
        gate.wait(10)
        slow.append(event.order)

    def raising_handler(event: ChannelEvent) -> None:
        raise RuntimeError("broken")

    async def quick_handler(event: ChannelEvent) -> None:
        quick.append((event.order, event.type, event.workflow_name, event.result and event.result.value))
        if event.type == "workflow.completed":
            done.set()

    for handler in (slow_handler, raising_handler, quick_handler):
        nexus.register_event_handler(handler)

    @nexus.workflow
    async def work(context: Context) -> int:
        context.progress(1)
        return 7

    begin = time.monotonic()
    await nexus.invoke("work")
    await asyncio.wait_for(done.wait(), 5)
    assert time.monotonic() - begin < 5
    kinds = ["workflow.registered", "workflow.started", "workflow.progress", "workflow.completed"]
    assert [kind for _, kind, _, _ in quick] == kinds
    assert quick[-1][2:] == ("work", 7)
    assert slow == []
    gate.set()
    async with nexus:
        pass
    assert slow == [number for number, *_ in quick]


async def test_refusals_are_events_too(make: Any) -> None:
    nexus = make()
    seen: list[ChannelEvent] = []
    stop = nexus.events.listen(seen.append)
    run = nexus.submit(Invocation("nothing", {}, "api"))
    await run.wait()
    stop()
    assert [(event.type, event.error.code, event.channel) for event in seen] == [
        ("workflow.failed", "workflow_not_found", "api")
    ]
    assert seen[0].to_dict()["error"]["status"] == 404


async def test_a_listener_that_raises_harms_nobody(make: Any) -> None:
    nexus = make()
    seen: list[str] = []

    def broken(event: ChannelEvent) -> None:
        raise RuntimeError("broken")

    nexus.events.listen(broken)
    nexus.events.listen(lambda event: seen.append(event.type))
    nexus.register("w", lambda: 1)
    assert (await nexus.invoke("w")).value == 1
    assert seen == ["workflow.registered", "workflow.started", "workflow.completed"]


async def test_registration_from_another_thread_is_an_event(make: Any) -> None:
    nexus = make()
    seen = asyncio.Event()
    async with nexus:
        nexus.events.listen(lambda event: seen.set())
        await asyncio.to_thread(nexus.register, "w", lambda: 1)
        await asyncio.wait_for(seen.wait(), 5)


async def test_handlers_are_part_of_nobodys_call(make: Any) -> None:
    nexus = make()
    runs, done = [], asyncio.Event()

    async def handle(event: ChannelEvent) -> None:
        runs.append(current_run.get())
        if event.type == "workflow.completed":
            done.set()

    @nexus.workflow
    async def work(context: Context) -> None:
        context.emit("here")
        await asyncio.sleep(0)

    nexus.register_event_handler(handle)
    await nexus.invoke("work")
    await asyncio.wait_for(done.wait(), 5)
    assert len(runs) >= 3
    assert set(runs) == {None}
