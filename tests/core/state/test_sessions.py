"""Sessions: one caller's state on every channel, changed by many at a time without losing anything."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from nexus_core import (
    Caller,
    Conflict,
    Context,
    Invocation,
    NexusError,
    SessionNotFound,
    ValidationError,
    WorkflowError,
)
from nexus_core.state.memory_store import MemoryStore
from nexus_core.state.stored_sessions import StoredSessions
from nexus_core.testing import eventually


class Counting(MemoryStore):
    """Counts its steps, and lets others go ahead in each, as a remote one does."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    async def get(self, key: str) -> bytes | None:
        self.steps.append("read")
        await asyncio.sleep(0)
        return await super().get(key)

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        self.steps.append("write")
        await asyncio.sleep(0)
        return await super().replace(key, old, new, ttl)


@pytest.fixture(name="store")
def store_fixture() -> Counting:
    return Counting()


@pytest.fixture(name="told")
def told_fixture() -> list[Any]:
    return []


@pytest.fixture(name="sessions")
def sessions_fixture(store: Counting, told: list[Any]) -> StoredSessions:
    return StoredSessions(store, told.append, ttl=60, max_bytes=1000)


async def test_a_session_lives_changes_and_ends(sessions: StoredSessions, told: list[Any]) -> None:
    made = await sessions.create("api", "ann")
    assert (made.user_id, made.state, made.active_channels, made.version) == ("ann", {}, {"api"}, 1)
    changed = await sessions.update(made.id, "ann", {"a": 1, "b": {"c": [2]}})
    assert (changed.state, changed.version) == ({"a": 1, "b": {"c": [2]}}, 2)
    assert (await sessions.update(made.id, "ann", {"a": None, "d": 3}, 2)).state == {"b": {"c": [2]}, "d": 3}
    assert (await sessions.get(made.id, "ann")).to_dict() == (await sessions.get(made.id, "ann")).to_dict()
    await sessions.remove(made.id, "ann")
    with pytest.raises(SessionNotFound):
        await sessions.get(made.id, "ann")
    assert [(event.type, event.owner, event.session_id) for event in told] == [
        (f"session.{what}", "ann", made.id) for what in ("created", "updated", "updated", "removed")
    ]
    assert told[2].data == {"version": 3, "changed": ["a", "d"]}


async def test_anothers_session_is_not_there(sessions: StoredSessions) -> None:
    made = await sessions.create("api", "ann")
    errors = []
    for user, session_id in (("bob", made.id), (None, made.id), ("ann", "guessed"), ("ann", "")):
        for attempt in (sessions.get, sessions.remove, lambda each, user: sessions.update(each, user, {})):
            with pytest.raises(SessionNotFound) as caught:
                await attempt(session_id, user)  # type: ignore[operator]
            errors.append(caught.value.message)
    assert len(set(errors)) == 1
    assert (await sessions.get(made.id, "ann")).id == made.id


async def test_nothing_is_lost_with_many_writers(sessions: StoredSessions) -> None:
    made = await sessions.create("api")

    async def write(number: int) -> None:
        await sessions.update(made.id, None, {f"key {number}": number})

    await asyncio.gather(*(write(number) for number in range(50)))
    found = await sessions.get(made.id)
    assert found.state == {f"key {number}": number for number in range(50)}
    assert found.version == 51


async def test_a_change_of_another_version_is_refused(sessions: StoredSessions) -> None:
    made = await sessions.create("api")
    await sessions.update(made.id, None, {"a": 1}, 1)
    with pytest.raises(Conflict) as caught:
        await sessions.update(made.id, None, {"a": 2}, 1)
    assert caught.value.problem()["version"] == 2
    assert (await sessions.get(made.id)).state == {"a": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"a": "x" * 2000}, "at most 1000 bytes"), ({"a": object()}, "JSON"), ({"a": float("nan")}, "JSON"),
     ({"a": "\ud800"}, "JSON")],
)  # fmt: skip
async def test_states_that_can_not_be_kept(sessions: StoredSessions, changes: Any, message: str) -> None:
    made = await sessions.create("api")
    with pytest.raises(ValidationError, match=message):
        await sessions.update(made.id, None, changes)
    for number in range(20):
        try:
            await sessions.update(made.id, None, {str(number): "x" * 90})
        except ValidationError:
            break
    assert 5 < number < 15
    assert (await sessions.get(made.id)).version == number + 1


async def test_what_somebody_else_has_written_is_no_session(sessions: StoredSessions, store: Counting) -> None:
    made = await sessions.create("api")
    for text in (b"", b"{", b"[]", b'{"owner": null}', b'{"owner":null,"version":1,"created_at":0,"expires_at":1}'):
        await store.set(f"session:{made.id}", text, 60)
        with pytest.raises(SessionNotFound):
            await sessions.get(made.id)


async def test_an_unused_session_ends_and_a_used_one_goes_on(store: Counting) -> None:
    sessions = StoredSessions(store, lambda event: None, ttl=0.5)
    used, unused = await sessions.create("api"), await sessions.create("api")
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        await sessions.used(await sessions.get(used.id), "api")
        await asyncio.sleep(0.01)
    with pytest.raises(SessionNotFound):
        await sessions.get(unused.id)


# In calls


@pytest.fixture(name="nexus")
async def nexus_fixture(make: Any, store: Counting) -> Any:
    class Stores:
        from nexus_core import hookimpl

        @hookimpl
        def nexus_register_stores(self) -> Any:
            store.name = "counting"
            return [store]

    nexus = make(Stores(), store="counting")

    @nexus.workflow
    async def change(fail: bool = False, *, context: Context, **more: Any) -> Any:
        assert context.session is not None
        context.session.state["calls"] = context.session.state.get("calls", 0) + 1
        if fail:
            raise WorkflowError("no")
        return context.session.state

    @nexus.workflow
    async def read(context: Context) -> Any:
        return context.session.state if context.session else None

    async with nexus:
        yield nexus


async def test_what_a_workflow_changes_is_kept_when_it_succeeds(nexus: Any, store: Counting) -> None:
    view = await nexus.view(Caller())
    session = await view.create_session("python")
    for count in (1, 2):
        result = await nexus.invoke(Invocation("change", {}, session_id=session.id))
        assert result.value == {"calls": count}
    with pytest.raises(WorkflowError):
        await nexus.invoke(Invocation("change", {"fail": True}, session_id=session.id))
    assert (await view.session(session.id)).state == {"calls": 2}
    assert (await view.update_session(session.id, {"calls": 9})).version == 4


async def test_a_call_reads_once_and_writes_at_most_once(nexus: Any, store: Counting) -> None:
    session = await (await nexus.view(Caller())).create_session("python")
    for name, steps in (("change", ["read", "write"]), ("read", ["read"])):
        store.steps.clear()
        await nexus.invoke(Invocation(name, {}, session_id=session.id))
        assert store.steps == steps
    store.steps.clear()
    await nexus.invoke(Invocation("read", {}, "mcp", session_id=session.id))  # from another channel, which is noted
    await nexus.invoke("read")
    assert store.steps == ["read", "write"]
    assert (await (await nexus.session_store()).get(session.id)).active_channels == {"python", "mcp"}


async def test_calls_at_a_time_keep_each_others_changes(nexus: Any) -> None:
    gate = asyncio.Event()

    @nexus.workflow
    async def note(key: str, context: Context) -> None:
        assert context.session is not None
        await gate.wait()
        context.session.state[key] = True

    session = await (await nexus.view(Caller())).create_session("python")
    calls = [nexus.submit(Invocation("note", {"key": str(number)}, session_id=session.id)) for number in range(10)]
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(*(call.outcome() for call in calls))
    assert (await (await nexus.session_store()).get(session.id)).state == {str(number): True for number in range(10)}


async def test_of_calls_that_change_one_member_at_a_time_each_is_kept_or_refused(nexus: Any) -> None:
    barrier = asyncio.Event()

    @nexus.workflow
    async def append(item: int, context: Context) -> None:
        assert context.session is not None
        items = list(context.session.state.get("items", []))
        await barrier.wait()
        context.session.state["items"] = [*items, item]
        context.session.state[f"item {item}"] = True
        context.session.state["last"] = "the same for all"

    view = await nexus.view(Caller())
    session = await view.create_session("python")
    await view.update_session(session.id, {"items": [-1]})
    runs = [nexus.submit(Invocation("append", {"item": number}, session_id=session.id)) for number in range(30)]
    for run in runs:
        await run.started_or_rejected()
    barrier.set()
    for run in runs:
        await run.wait()
    kept = [number for number, run in enumerate(runs) if run.error is None]
    state = (await view.session(session.id)).state
    assert state.pop("last") == "the same for all"
    assert state == {"items": [-1, *kept]} | {f"item {number}": True for number in kept}
    assert len(kept) == 1
    for run in runs:
        if run.error is not None:
            assert (run.status, run.error.code, run.error.status) == ("failed", "conflict", 409)
            assert run.error.details["members"] == ["items", "last"]
            assert run.error.run_id == run.id


async def test_what_a_caller_sets_does_not_come_of_what_was_there(nexus: Any, sessions: StoredSessions) -> None:
    made = await sessions.create("api", "ann")
    await asyncio.gather(*(sessions.update(made.id, "ann", {"a": number}) for number in range(20)))
    first, second, third = [await sessions.get(made.id, "ann") for _ in range(3)]
    first.state["a"] = "first"
    second.state["a"] = "second"
    del third.state["a"]
    await sessions.save(first)
    assert (await sessions.save(second, replaces=True)).state == {"a": "second"}
    with pytest.raises(Conflict):
        await sessions.save(third)


async def test_a_session_that_is_removed_meanwhile_does_not_come_back(nexus: Any) -> None:
    view = await nexus.view(Caller())
    session = await view.create_session("python")

    @nexus.workflow
    async def remove(context: Context) -> str:
        assert context.session is not None
        context.session.state["a"] = 1
        await view.remove_session(session.id)
        return "done"

    assert (await nexus.invoke(Invocation("remove", {}, session_id=session.id))).value == "done"
    with pytest.raises(SessionNotFound):
        await view.session(session.id)
    with pytest.raises(NexusError):
        await nexus.invoke(Invocation("read", {}, session_id=session.id))


# Renewal, saving and housekeeping


async def test_a_renewed_session_has_another_id_and_the_old_one_is_gone(
    sessions: StoredSessions, told: list[Any]
) -> None:
    made = await sessions.create("api", "ann")
    await sessions.update(made.id, "ann", {"a": 1})
    renewed = await sessions.renew(made.id, "ann")
    assert renewed.id != made.id
    assert (renewed.state, renewed.active_channels, renewed.created_at) == ({"a": 1}, {"api"}, made.created_at)
    assert (await sessions.get(renewed.id, "ann")).version == renewed.version == 3
    for attempt in (sessions.get, sessions.renew, sessions.remove):
        with pytest.raises(SessionNotFound):
            await attempt(made.id, "ann")
    assert [(event.type, event.session_id) for event in told[2:]] == [
        ("session.removed", made.id), ("session.created", renewed.id),
    ]  # fmt: skip
    assert told[2].data == {"reason": "renewed"}


async def test_a_login_takes_over_a_session_that_nobody_owns(sessions: StoredSessions) -> None:
    anonymous = await sessions.create("api")
    mine = await sessions.renew(anonymous.id, "ann")
    assert mine.user_id == "ann"
    for user in (None, "bob"):
        with pytest.raises(SessionNotFound):
            await sessions.renew(mine.id, user)
        with pytest.raises(SessionNotFound):
            await sessions.get(mine.id, user)
    for unknown in ("guessed", "", anonymous.id):
        with pytest.raises(SessionNotFound):
            await sessions.renew(unknown, "ann")


async def test_changes_during_a_renewal_are_not_lost(sessions: StoredSessions) -> None:
    made = await sessions.create("api")
    kept = 0

    async def write(number: int) -> None:
        nonlocal kept
        with contextlib.suppress(SessionNotFound, Conflict):
            await sessions.update(made.id, None, {f"key {number}": number})
            kept += 1

    renewed, *_ = await asyncio.gather(sessions.renew(made.id), *(write(number) for number in range(20)))
    assert len(renewed.state) == kept


async def test_two_renewals_at_once_make_one_session(sessions: StoredSessions, store: Counting) -> None:
    made = await sessions.create("api")
    outcomes = await asyncio.gather(*(sessions.renew(made.id) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, SessionNotFound) for outcome in outcomes) == 4
    assert len(store) == 1


async def test_saving_keeps_what_others_have_changed(sessions: StoredSessions, told: list[Any]) -> None:
    made = await sessions.create("api")
    mine, other = await sessions.get(made.id), await sessions.get(made.id)
    mine.state["mine"] = 1
    mine.metadata.update({"tenant": None, "roles": ["a"]})
    other.state["other"] = 2
    other.metadata["seen"] = True
    await sessions.save(other)
    saved = await sessions.save(mine, notified=("api", "mcp"))
    assert saved.state == {"mine": 1, "other": 2}
    assert saved.metadata == {"tenant": None, "roles": ["a"], "seen": True}
    assert told[-1].data == {"version": 3, "changed": ["mine"], "channels": ["api", "mcp"]}
    assert (await sessions.save(saved)).version == 3  # nothing has changed
    del saved.metadata["tenant"]
    assert (await sessions.save(saved)).metadata == {"roles": ["a"], "seen": True}
    with pytest.raises(Conflict):
        await sessions.save(mine, version=1)
    mine.metadata["large"] = "x" * 2000
    with pytest.raises(ValidationError, match="metadata has at most 1000 bytes"):
        await sessions.save(mine)


async def test_an_expired_session_is_there_for_housekeeping_alone(store: Counting, told: list[Any]) -> None:
    sessions = StoredSessions(store, told.append, ttl=0.05, linger=60)
    made, used = await sessions.create("api", "ann"), await sessions.create("api", "ann")
    await eventually(lambda: time.time() > (used.expires_at or 0))
    with pytest.raises(SessionNotFound):
        await sessions.get(made.id, "ann")
    seen = await sessions.look(made.id)
    assert seen is not None
    assert seen.user_id == "ann"
    assert await sessions.discard(seen)
    assert not await sessions.discard(seen)
    assert await sessions.look(made.id) is None
    assert [event.type for event in told] == ["session.created"] * 2 + ["session.expired"]


async def test_what_has_changed_since_a_session_was_given_out(sessions: StoredSessions) -> None:
    made = await sessions.create("api")
    found = await sessions.update(made.id, None, {"a": 1, "b": 2, "c": [3]})
    found.state["c"].append(4)
    found.state["d"] = 5
    del found.state["a"]
    found.metadata["tenant"] = "x"
    before, changes = sessions.undone(found)
    assert (before.state, before.metadata) == ({"a": 1, "b": 2, "c": [3]}, {"tenant": "x"})
    assert changes == {"a": None, "c": [3, 4], "d": 5}


async def test_of_calls_that_count_at_a_time_no_answered_one_is_lost(nexus: Any) -> None:
    barrier = asyncio.Event()

    @nexus.workflow
    async def count(context: Context) -> None:
        assert context.session is not None
        seen = context.session.state.get("count", 0)
        await barrier.wait()
        context.session.state["count"] = seen + 1  # all make the same of it

    view = await nexus.view(Caller())
    session = await view.create_session("python")
    runs = [nexus.submit(Invocation("count", {}, session_id=session.id)) for _ in range(10)]
    for run in runs:
        await run.started_or_rejected()
    barrier.set()
    for run in runs:
        await run.wait()
    kept = [run for run in runs if run.error is None]
    assert (await view.session(session.id)).state == {"count": len(kept)}
    assert len(kept) == 1
