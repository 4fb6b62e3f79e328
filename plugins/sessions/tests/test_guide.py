"""The developer guide's session manager, unchanged."""

from __future__ import annotations

import asyncio
import logging

import pytest
from guide_manager import AsyncSessionManager, EnterpriseSessionManager

from nexus_core import SessionNotFound

MANAGERS = pytest.mark.parametrize("manager", [EnterpriseSessionManager, AsyncSessionManager])


@MANAGERS
async def test_sessions_are_made_with_metadata(start, view, manager):
    nexus = await start(manager=manager())
    ann = await view(nexus, "ann")
    made = await ann.create_session("api")
    kept = await ann.session(made.id)
    assert kept.metadata.pop("created_at")[:2] == "20"
    assert kept.metadata == {"tenant_id": "acme", "permissions": ["of.ann"], "rate_limits": {}, "channel": "api"}
    assert [event.type for event in nexus.told] == ["session.created"]
    anonymous = await (await view(nexus)).create_session("api")
    assert (anonymous.metadata["tenant_id"], anonymous.metadata["permissions"]) == (None, [])


@MANAGERS
async def test_changes_reach_every_channel_in_one_event(start, view, call, manager):
    nexus = await start(manager=manager())
    ann = await view(nexus, "ann")
    made = await ann.create_session("api")
    changed = await ann.update_session(made.id, {"a": 1, "b": 2})
    assert (changed.state, changed.version) == ({"a": 1, "b": 2}, made.version + 1)
    await call(nexus, made, "mcp", "ann", key="b", value=3)
    assert (await ann.update_session(made.id, {"a": None})).state == {"b": 3}
    kept = await ann.session(made.id)
    assert (kept.state, kept.active_channels) == ({"b": 3}, {"api", "mcp"})
    updates = [event for event in nexus.told if event.type == "session.updated"]
    assert [(event.data["changed"], sorted(event.data["channels"])) for event in updates] == [
        (["a", "b"], ["api"]), (["b"], ["api", "mcp"]), (["a"], ["api", "mcp"]),
    ]  # fmt: skip
    assert {event.owner for event in updates} == {"acme/ann"}


@MANAGERS
async def test_a_change_that_changes_nothing_is_told_to_the_channels_too(start, view, manager):
    nexus = await start(manager=manager())
    ann = await view(nexus, "ann")
    made = await ann.create_session("api")
    await ann.update_session(made.id, {"a": 1})
    same = await ann.update_session(made.id, {"a": 1})
    assert same.state == {"a": 1}
    assert nexus.told[-1].data == {"version": same.version, "changed": [], "channels": ["api"]}


@MANAGERS
async def test_expired_sessions_are_cleaned_up_with_logging(start, view, manager, caplog, eventually):
    caplog.set_level(logging.INFO)
    nexus = await start(manager=manager(), session_ttl=0.2, session_cleanup_interval=0.1)
    ann = await view(nexus, "ann")
    made = [await ann.create_session("api") for _ in range(3)]
    await eventually(lambda: [event.type for event in nexus.told].count("session.expired") == 3)
    for session in made:
        assert f"Cleaning up expired session: {session.id}" in caplog.messages
        with pytest.raises(SessionNotFound):
            await ann.session(session.id)


@MANAGERS
async def test_it_works_on_every_store(start_shared, view, call, manager):
    first, second = [await start_shared(manager=manager()) for _ in range(2)]
    ann, again = await view(first, "ann"), await view(second, "ann")
    made = await ann.create_session("api")
    await asyncio.gather(
        *(ann.update_session(made.id, {f"first {number}": number}) for number in range(5)),
        *(call(second, made, "cli", "ann", key=f"second {number}", value=number) for number in range(5)),
    )
    kept = await again.session(made.id)
    assert kept.state == {f"{where} {number}": number for where in ("first", "second") for number in range(5)}
    assert kept.metadata["tenant_id"] == "acme"


def test_the_rate_limit_of_the_caller_is_known(make, view):
    """With the plugin that sets it: the budget after this very request."""
    ratelimit = pytest.importorskip("nexus_ratelimit.plugin").RateLimitPlugin
    manager = EnterpriseSessionManager()
    nexus = make(ratelimit, manager=manager, enable_rate_limiting=True, rate_limit_per_minute=7)

    async def main():
        async with nexus:
            return await (await view(nexus, "ann")).create_session("api")

    limits = asyncio.run(main()).metadata["rate_limits"]
    assert (limits["limit"], limits["window"], limits["remaining"]) == (7, 60.0, 6)
