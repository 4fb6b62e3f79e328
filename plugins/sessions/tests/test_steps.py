"""What sessions cost: steps of the store, and threads."""

from __future__ import annotations

import threading

import pytest
from nexus_sessions import SessionManager

from nexus_core import Context, Invocation, hookimpl
from nexus_core.state.memory_store import MemoryStore


class Counting(MemoryStore):
    """Counts its steps."""

    name = "counting"

    def __init__(self):
        super().__init__()
        self.steps = []

    @hookimpl
    def nexus_register_stores(self):
        return [self]

    async def get(self, key):
        self.steps.append("read")
        return await super().get(key)

    async def set(self, key, value, ttl):
        self.steps.append("write")
        await super().set(key, value, ttl)

    async def replace(self, key, old, new, ttl):
        self.steps.append("write")
        return await super().replace(key, old, new, ttl)

    async def delete(self, key, value=None):
        self.steps.append("write")
        return await super().delete(key, value)


class Cleans(SessionManager):
    def cleanup_session_resources(self, session):
        pass


class Syncs(SessionManager):
    def sync_session_state(self, session_id, state):
        self.get_session(session_id).state.update(state)


@pytest.mark.parametrize("manager", [None, SessionManager, Cleans])
async def test_what_is_not_overridden_costs_nothing(start, view, call, manager):
    store = Counting()
    nexus = await start(store, session_backend="counting", manager=manager and manager())
    nexus.register("read", lambda context: context.session.state if context.session else None, {}, replace=True)
    me = await view(nexus)
    names = [thread.name for thread in threading.enumerate()]

    async def steps(work):
        store.steps.clear()
        value = await work
        return value, store.steps

    session, taken = await steps(me.create_session("api"))
    assert taken == ["write"]
    for work, expected in (
        (call(nexus, session), ["read", "write"]), (call(nexus, session), ["read"]),
        (me.session(session.id), ["read"]), (me.update_session(session.id, {"b": 1}), ["read", "write"]),
        (me.renew_session(session.id), ["read", "write", "write"]),
    ):  # fmt: skip
        value, taken = await steps(work)
        assert taken == expected
    assert (await steps(me.remove_session(value.id)))[1] == ["read", "write"]
    assert [thread.name for thread in threading.enumerate()] == names


async def test_a_call_without_a_session_takes_no_step(start):
    store = Counting()
    nexus = await start(store, session_backend="counting", manager=Syncs())
    nexus.register("one", lambda: 1)
    await nexus.invoke("one")
    assert store.steps == []


async def test_an_overridden_change_costs_a_call_no_more_steps(start, view):
    store = Counting()
    nexus = await start(store, session_backend="counting", manager=Syncs())
    me = await view(nexus)
    session = await me.create_session("api")

    @nexus.workflow
    async def change(value: int, context: Context) -> None:
        context.session.state["a"] = value
        context.session.metadata["m"] = value

    store.steps.clear()
    await nexus.invoke(Invocation("change", {"value": 1}, "mcp", session_id=session.id))
    assert store.steps == ["read", "write"]
    kept = await me.session(session.id)
    assert (kept.state, kept.metadata, kept.active_channels) == ({"a": 1}, {"m": 1}, {"api", "mcp"})
    store.steps.clear()
    await me.update_session(session.id, {"b": 1}, kept.version)
    assert store.steps == ["read", "write"]
