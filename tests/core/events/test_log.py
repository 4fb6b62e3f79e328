"""Following everything that happens: in order, bounded, resumable, and only what is one's own."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from nexus_core import Caller, Context, Invocation, MalformedRequest, Principal, Stage, hookimpl
from nexus_core.events.log import BACKLOG, KEPT


async def taken(follower: Any, count: int) -> list[Any]:
    return [await follower.next(5) for _ in range(count)]


@pytest.fixture(name="nexus")
async def nexus_fixture(make: Any) -> Any:
    nexus = make()

    @nexus.workflow
    async def work(events: int = 0, *, context: Context) -> int:
        for number in range(events):
            context.emit("step", number)
        return events

    async with nexus:
        nexus.me = await nexus.view(Caller())
        yield nexus


async def test_events_come_in_order_and_without_results(nexus: Any) -> None:
    follower = await nexus.me.events()
    assert await follower.next(0.01) is None
    result = await nexus.invoke("work", {"events": 2})
    events = await taken(follower, 4)
    assert [event.type for event in events] == [
        "workflow.started", "workflow.event", "workflow.event", "workflow.completed",
    ]  # fmt: skip
    assert [event.number for event in events] == [1, 2, 3, 4]
    assert {event.run_id for event in events} == {result.run_id}
    assert events[-1].result is None
    assert await follower.next(0.01) is None
    follower.close()
    await nexus.invoke("work")
    assert await follower.next(0.01) is None


async def test_a_follower_goes_on_after_an_event(nexus: Any) -> None:
    (await nexus.me.events()).close()  # from the first follower on, events are kept
    before = nexus.events.latest
    await nexus.invoke("work", {"events": 3})
    follower = await nexus.me.events(nexus.event_log._id(before))
    events = await taken(follower, 5)
    for index, event in enumerate(events):
        again = await nexus.me.events(event.id)
        assert await taken(again, 4 - index) == events[index + 1 :]
        assert await again.next(0.01) is None


async def test_who_may_have_missed_something_is_told(nexus: Any) -> None:
    await nexus.invoke("work")
    (await nexus.me.events()).close()
    await nexus.invoke("work")
    epoch, latest = nexus.event_log.epoch, nexus.events.latest
    later, first, here = (nexus.event_log._id(place) for place in (latest + 1, 1, latest))
    number = here.removeprefix(f"{epoch}-")
    for after in (later, first, f"another-{number}", f"{epoch}x-{number}", f"{epoch}-{latest}", "-0"):
        missed, *rest = await taken(await nexus.me.events(after), 3)
        assert (missed.type, missed.data) == ("events.missed", {"count": None}), after
        assert [event.type for event in rest] == ["workflow.started", "workflow.completed"]


async def test_who_leaves_before_it_has_caught_up_comes_back_with_its_position(nexus: Any) -> None:
    (await nexus.me.events()).close()
    before = nexus.events.latest
    await nexus.invoke("work")
    for after, count in ((nexus.event_log._id(before), 2), (nexus.event_log._id(before + 1), 1), ("another-5", 2)):
        follower = await nexus.me.events(after)
        again = await nexus.me.events(follower.position)
        events = await taken(again, count)
        assert [event.type for event in events] == ["workflow.started", "workflow.completed"][-count:]
        assert (await taken(follower, count + (after == "another-5")))[-count:] == events


@pytest.mark.parametrize("after", ["", "5", "x", "a-", "a-b", "a-\uff11", "a-" + "1" * 100, "a--1"])
async def test_ids_that_are_none(nexus: Any, after: str) -> None:
    with pytest.raises(MalformedRequest, match="id of the last event"):
        await nexus.me.events(after)


async def test_a_follower_who_does_not_read_is_bounded_and_told(nexus: Any) -> None:
    slow, other = await nexus.me.events(), await nexus.me.events()
    for _ in range(BACKLOG):
        await nexus.invoke("work")
        await taken(other, 2)
    missed, oldest = await taken(slow, 2)
    assert (missed.type, missed.data) == ("events.missed", {"count": BACKLOG})
    assert len(slow._waiting) == BACKLOG - 1
    assert oldest.type == "workflow.started"
    back = await nexus.me.events(nexus.event_log._id(0))
    missed, oldest = await taken(back, 2)
    assert missed.data == {"count": None}
    assert oldest.order == nexus.events.latest - KEPT + 1


async def test_what_a_follower_gets_does_not_tell_how_busy_others_are(nexus: Any) -> None:
    async def heard(others: int) -> list[dict[str, Any]]:
        follower = await nexus.me.events()
        for _ in range(others):
            await nexus.invoke(Invocation("work", {"events": 10}, principal=Principal("another")))
        await nexus.invoke("work", {"events": 1})
        events = [event.to_dict() | {"id": event.id} for event in await taken(follower, 3)]
        follower.close()
        return events

    alone, among_others = await heard(0), await heard(50)
    for events in (alone, among_others):
        assert [event["number"] for event in events] == [1, 2, 3]
        assert not {"order", "owner"} & events[0].keys()
        places = [int(event["id"].rpartition("-")[2]) for event in events]
        assert all(abs(one - other) > 1000 for one, other in pairwise(places))
    assert nexus.event_log._id(7) != nexus.event_log._id(7)  # that nothing has happened is not told either
    for place in (0, 1, 7, 2**48 - 1):
        assert nexus.event_log._ids.read(nexus.event_log._ids.written(place)) == place


class Names:
    """Believes whatever a caller says of itself."""

    stage = Stage.AUTHENTICATE

    @hookimpl
    def nexus_register_interceptors(self) -> Any:
        return [self]

    async def __call__(self, invocation: Any, call_next: Any) -> Any:
        invocation.principal = Principal(invocation.credentials["name"])
        return await call_next(invocation)


async def test_nobody_hears_of_anothers_runs(make: Any) -> None:
    nexus = make(Names())

    def call(name: str, workflow: str = "") -> Invocation:
        return Invocation(workflow, {}, credentials={"name": name})

    @nexus.workflow
    async def work() -> None:
        await asyncio.sleep(0)

    async with nexus:
        followers = {name: await (await nexus.view(call(name))).events() for name in ("ann", "bob")}
        results = {name: await nexus.invoke(call(name, "work")) for name in ("ann", "bob", "ann")}
        for name, follower in followers.items():
            heard = [await follower.next(0.05) for _ in range(6)]
            assert {event.user_id for event in heard if event} == {name}
            assert results[name].run_id in {event.run_id for event in heard if event}


async def test_a_platform_that_nobody_follows_keeps_nothing(nexus: Any) -> None:
    await nexus.invoke("work", {"events": 5})
    assert not nexus.event_log._kept
    assert not nexus.events._listeners


async def test_what_it_does_not_want_moves_a_follower_along_too(nexus: Any) -> None:
    """Who has got nothing for long, while much has happened to others, has missed nothing all the same."""
    session = await nexus.me.create_session("python")
    follower = await nexus.me.events(session_id=session.id)
    for _ in range(KEPT):
        await nexus.invoke("work")
    assert await follower.next(0.01) is None
    back = await nexus.me.events(follower.cursor, session_id=session.id)
    await nexus.me.update_session(session.id, {"a": 1})
    event = await back.next(5)
    assert event is not None
    assert event.type == "session.updated"
    assert follower.cursor is None  # more waits for it
    late = await nexus.me.events(follower.position, session_id=session.id)
    missed = await late.next(5)
    assert missed is not None
    assert missed.type == "events.missed"
