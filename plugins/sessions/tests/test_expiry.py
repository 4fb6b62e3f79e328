"""Sessions that are over: for everybody at once, and cleaned up once by whoever is first."""

from __future__ import annotations

import asyncio
import time

import pytest
from nexus_sessions import SessionManager
from nexus_sessions.recent_ids import RecentSessionIds

from nexus_core import PermissionDenied, SessionNotFound
from nexus_core.state.sessions import Session

SHORT = {"session_ttl": 0.5, "session_cleanup_interval": 0.1}


def expired(*platforms):
    return sorted(event.session_id for nexus in platforms for event in nexus.told if event.type == "session.expired")


async def test_every_session_is_cleaned_up_by_one_of_several(start_shared, view, eventually):
    options = {"session_ttl": 1.0, "session_cleanup_interval": 0.1}
    first, second = await start_shared(**options), await start_shared(**options)
    ann, again = await view(first, "ann"), await view(second, "ann")
    made = [await ann.create_session("api") for _ in range(20)]
    for session in made:
        assert (await again.session(session.id)).id == session.id
    await eventually(lambda: len(expired(first, second)) >= 20)
    await asyncio.sleep(0.3)  # nothing more comes
    assert expired(first, second) == sorted(session.id for session in made)
    assert {event.owner for nexus in (first, second) for event in nexus.told} == {"acme/ann"}


async def test_a_session_in_use_is_not_over(start_shared, view, call):
    options = {"session_ttl": 0.8, "session_cleanup_interval": 0.05}
    first, second = await start_shared(**options), await start_shared(**options)
    me, again = await view(first), await view(second)
    used, unused = await me.create_session("api"), await me.create_session("api")
    end = time.monotonic() + 1.1
    while time.monotonic() < end:
        await call(second, used)  # the first one does not hear of that
        await asyncio.sleep(0.02)
    assert expired(first, second) == [unused.id]
    assert (await again.session(used.id)).state == {"a": 1}


async def test_a_session_is_over_before_it_is_cleaned_up(start_shared, view):
    nexus = await start_shared(session_ttl=0.2)
    me = await view(nexus)
    made = await me.create_session("api")
    await asyncio.sleep(made.expires_at - time.time())
    for attempt in (me.session(made.id), me.update_session(made.id, {}), me.remove_session(made.id)):
        with pytest.raises(SessionNotFound):
            await attempt
    assert (await (await nexus.session_store()).service.stored.look(made.id)).id == made.id
    assert expired(nexus) == []


async def test_what_becomes_of_resources_is_the_managers(start, view, eventually):
    class Cleans(SessionManager):
        def __init__(self):
            self.cleaned = []

        def cleanup_session_resources(self, session):
            self.cleaned.append((session.id, session.state))

    nexus = await start(manager=Cleans(), **SHORT)
    me = await view(nexus)
    made = await me.create_session("api")
    await me.update_session(made.id, {"a": 1})
    await eventually(lambda: expired(nexus) == [made.id])
    assert nexus.session_manager.cleaned == [(made.id, {"a": 1})]


async def test_cleaning_goes_on_whatever_goes_wrong(start, view, eventually, caplog):
    class Breaks(SessionManager):
        rounds = 0

        def cleanup_expired_sessions(self):
            self.rounds += 1
            match self.rounds:
                case 1:
                    raise RuntimeError("broken")
                case 2:
                    raise PermissionDenied("refused")
                case 3:
                    raise SystemExit
            super().cleanup_expired_sessions()

    nexus = await start(manager=Breaks(), **SHORT)
    made = await (await view(nexus)).create_session("api")
    await eventually(lambda: expired(nexus) == [made.id])
    assert caplog.text.count("Expired sessions could not be cleaned up") == 3


@pytest.fixture
def leaves_soon(monkeypatch):
    """Let a store keep expired sessions for two intervals of the cleaner alone."""
    monkeypatch.setattr("nexus_sessions.plugin.LINGER_SECONDS", 0.0)


async def test_a_session_that_can_not_be_cleaned_up_is_in_nobodys_way(start, view, eventually, caplog, leaves_soon):
    class Breaks(SessionManager):
        tried = 0

        def cleanup_session_resources(self, session):
            if session.id == first.id:
                self.tried += 1
                raise RuntimeError("broken")

    nexus = await start(manager=Breaks(), **SHORT)
    me = await view(nexus)
    first, second = await me.create_session("api"), await me.create_session("api")
    await eventually(lambda: expired(nexus) == [second.id])
    recent_ids = (await nexus.session_store()).service.recent_ids
    await eventually(lambda: len(recent_ids) == 0)
    assert 1 <= nexus.session_manager.tried <= 4  # then its store lets it go
    assert "could not be cleaned up" in caplog.text
    assert first.id not in caplog.text  # whoever reads the log must not be able to use one


async def test_a_store_that_is_away_is_asked_again(start, view, eventually, redis_server):
    redis = pytest.importorskip("nexus_redis.plugin").RedisPlugin
    nexus = await start(redis, redis_url=redis_server.url, store="redis", session_ttl=0.5, session_cleanup_interval=1)
    made = await (await view(nexus)).create_session("api")
    redis_server.pause()
    await asyncio.sleep(1.2)
    redis_server.resume()
    await eventually(lambda: expired(nexus) == [made.id])


async def test_a_manager_that_leaves_sessions_be_is_not_asked_for_ever(start, view, eventually, leaves_soon):
    class Leaves(SessionManager):
        async def cleanup_expired_sessions(self):
            found.append(await self.get_expired_sessions())

    found = []
    nexus = await start(manager=Leaves(), session_ttl=0.05, session_cleanup_interval=0.5)
    me = await view(nexus)
    await me.create_session("api")
    await eventually(lambda: found and not found[-1])  # its store has let it go
    assert len(found[0]) == 1
    assert len(found) <= 8  # two in a sweep


async def test_many_are_cleaned_up_some_at_a_time(start, view, eventually, monkeypatch):
    for name in ("service", "cleaner"):
        monkeypatch.setattr(f"nexus_sessions.{name}.BATCH", 7)
    nexus = await start(session_ttl=0.2, session_cleanup_interval=0.5)
    me = await view(nexus)
    made = [await me.create_session("api") for _ in range(50)]
    await eventually(lambda: len(expired(nexus)) == 50)
    assert expired(nexus) == sorted(session.id for session in made)
    assert nexus.told[-1].time - nexus.told[-50].time < 0.3  # all in one sweep


async def test_removed_and_renewed_sessions_are_not_looked_for(start, view):
    nexus = await start()
    me = await view(nexus)
    seen = (await nexus.session_store()).service.recent_ids
    made, other = await me.create_session("api"), await me.create_session("api")
    await me.renew_session(made.id)
    await me.remove_session(other.id)
    assert len(seen) == 1


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("nexus_sessions.recent_ids.LIMIT", 3)
    seen = RecentSessionIds()
    for number in range(5):
        seen.add(Session(str(number), expires_at=float(number)))
    seen.add(Session("2", expires_at=9.0))
    seen.add(Session("never"))
    assert seen.expired(5.0, 10) == ["3", "4"]
    assert seen.expired(10.0, 2) == ["3", "4"]
    seen.remove("3")
    assert seen.expired(10.0, 10) == ["4", "2"]
