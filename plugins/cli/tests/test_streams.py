"""Streams of events in one process: what they say in silence, how sessions end, what who comes back is told."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing

import pytest
from nexus_cli.server import streams
from nexus_cli.server.service import Service

from nexus_core import Caller, Context, Principal, Stage, hookimpl
from nexus_core.errors import MalformedRequest, SessionNotFound
from nexus_core.state.stored_sessions import StoredSessions
from nexus_core.testing import isolated_nexus

LIMIT = 10


class Sessions:
    """Keeps sessions for a short time, and tells callers apart by the user they say they are."""

    stage = Stage.AUTHENTICATE

    def __init__(self, ttl):
        self._ttl = ttl

    @hookimpl
    def nexus_register_session_stores(self, nexus):
        return [StoredSessions(nexus.store(None, "store"), nexus.events.publish, ttl=self._ttl)]

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]

    async def __call__(self, invocation, call_next):
        invocation.principal = Principal((invocation.credentials or {}).get("user", "somebody"))
        return await call_next(invocation)


@pytest.fixture
async def start():
    """Start a platform; returns it with `asked`, which answers a request."""
    started = []

    async def begin(ttl=60.0):
        nexus = isolated_nexus(Sessions(ttl))

        @nexus.workflow
        async def wait(seconds: float, context: Context) -> int:
            context.emit("waits")
            await asyncio.sleep(seconds)
            return 1

        await nexus.__aenter__()
        started.append(nexus)
        service = Service(nexus)

        def asked(user="somebody", **request):
            caller = Caller("cli", credentials={"user": user})
            return aclosing(service.answer(request, caller, b"", None).lines)

        async def reply(**request):
            async with asked(**request) as lines:
                return [json.loads(line) async for line in lines][-1]["reply"]

        nexus.asked, nexus.reply = asked, reply
        return nexus

    yield begin
    for nexus in started:
        await nexus.__aexit__(None, None, None)


async def taken(lines, count=None):
    """Return so many lines, or all of them up to the end."""
    found = []
    async with asyncio.timeout(LIMIT):
        async for line in lines:
            found.append(json.loads(line))
            if len(found) == count:
                break
    return found


async def begun(lines):
    """Return the id with which a stream begins."""
    [first] = await taken(lines, 1)
    assert first["event"]["type"] == streams.FOLLOWING
    return first["event"]["id"]


async def test_silence_is_told(start, monkeypatch):
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.02)
    nexus = await start()
    session = await nexus.reply(command="sessions.create")
    run = await nexus.reply(command="execute", workflow="wait", params={"seconds": 5}, wait=0)
    for request in (
        {"command": "events.follow"},
        {"command": "events.follow", "session_id": session["session_id"]},
        {"command": "runs.follow", "run_id": run["run_id"], "after": nexus.events.latest},
    ):
        async with nexus.asked(**request) as lines:
            told = await taken(lines, 4)
        assert told[0]["event"]["type"] == streams.FOLLOWING
        assert told[1:] == [{}] * 3
    assert not nexus.event_log.followed_by
    nexus.runs.get(run["run_id"]).cancel()


async def test_a_session_that_nobody_uses_ends(start):
    nexus = await start(ttl=0.6)
    session = await nexus.reply(command="sessions.create")
    session_id = session["session_id"]
    async with nexus.asked(command="events.follow", session_id=session_id) as lines:
        await begun(lines)
        while time.time() < session["expires_at"] - 0.3:
            await asyncio.sleep(0.01)
        changed = await nexus.reply(command="sessions.set", session_id=session_id, state={"a": 1})
        told = await taken(lines)
    assert time.time() >= changed["expires_at"] > session["expires_at"]
    assert time.time() < changed["expires_at"] + 1
    assert told[0]["event"]["state"] == {"a": 1}
    assert told[-1] == {"reply": {"session_id": session_id, "ended": "expired"}}
    assert not nexus.event_log.followed_by


@pytest.mark.parametrize(("command", "ended"), [("revoke", "removed"), ("renew", "renewed")])
async def test_a_session_ends_while_it_is_followed_or_while_its_follower_is_away(start, command, ended):
    nexus = await start()
    session_id = (await nexus.reply(command="sessions.create"))["session_id"]
    async with nexus.asked(command="events.follow", session_id=session_id) as lines:
        after = await begun(lines)
        await nexus.reply(command="sessions.set", session_id=session_id, state={"a": 1})
        await nexus.reply(command="execute", workflow="wait", params={"seconds": 0})  # no business of the session's
        await nexus.reply(command=f"sessions.{command}", session_id=session_id)
        here = await taken(lines)
    assert [line["event"]["type"] for line in here[:-1]] == ["session.updated", "session.removed"]
    assert here[-1] == {"reply": {"session_id": session_id, "ended": ended}}
    async with nexus.asked(command="events.follow", session_id=session_id, after=after) as lines:
        away = await taken(lines)
    for line in here:
        line.get("event", {}).pop("state", None)  # nobody can look at it any more
    assert away == here


async def test_a_session_that_is_not_there_is_so_for_who_comes_back_too(start):
    nexus = await start()
    session_id = (await nexus.reply(command="sessions.create"))["session_id"]
    async with nexus.asked(command="events.follow") as lines:
        after = await begun(lines)
    await nexus.reply(command="sessions.revoke", session_id=session_id)
    told = []
    for request in ({"session_id": "guessed"}, {"session_id": session_id, "user": "another"}):
        for place in ({}, {"after": after}):
            with pytest.raises(SessionNotFound) as raised:
                async with nexus.asked(command="events.follow", **request, **place) as lines:
                    await taken(lines)
            told.append(raised.value.problem())
    assert told == told[:1] * 4
    assert not nexus.event_log.followed_by


async def test_missed_events_have_the_place_to_go_on_from(start):
    nexus = await start()
    async with nexus.asked(command="events.follow", after="another-7") as lines:
        here = await begun(lines)
        [missed] = await taken(lines, 1)
    assert (missed["event"]["type"], missed["event"]["id"]) == ("events.missed", here)
    run = await nexus.reply(command="execute", workflow="wait", params={"seconds": 0})
    async with nexus.asked(command="events.follow", after=here) as lines:
        assert await begun(lines) == here
        told = await taken(lines, 3)
    assert {line["event"]["run_id"] for line in told} == {run["run_id"]}


async def test_an_id_that_is_none(start):
    nexus = await start()
    for after in ("", "x", "x" * 300, "a-b"):
        with pytest.raises(MalformedRequest):
            async with nexus.asked(command="events.follow", after=after) as lines:
                await taken(lines)
