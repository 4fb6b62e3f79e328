"""Managers that override: what is kept, whose sessions they find, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from nexus_sessions import Session, SessionManager

from nexus_core import (
    BackendUnavailable,
    ConfigurationError,
    Conflict,
    Context,
    Invocation,
    NexusError,
    PermissionDenied,
    Principal,
    SessionNotFound,
    ValidationError,
)


class Syncs(SessionManager):
    """Marks what passes."""

    def sync_session_state(self, session_id, state):
        session = self.get_session(session_id)
        session.state.update(state)
        session.metadata["changes"] = session.metadata.get("changes", 0) + 1


class SuperSyncs(SessionManager):
    def sync_session_state(self, session_id, state):
        return super().sync_session_state(session_id, {**state, "by": "super"})


class AsyncSuperSyncs(SessionManager):
    async def sync_session_state(self, session_id, state):
        return await super().sync_session_state(session_id, {**state, "by": "super"})


class Gets(SessionManager):
    def get_session(self, session_id):
        session = super().get_session(session_id)
        session.metadata["gets"] = session.metadata.get("gets", 0) + 1
        return session


class Notifies(SessionManager):
    def __init__(self):
        self.notified = []

    def notify_channel(self, channel, session_id, state):
        self.notified.append((channel, state))
        super().notify_channel(channel, session_id, state)


# What is kept


@pytest.mark.parametrize("manager", [SuperSyncs, AsyncSuperSyncs])
async def test_super_changes_the_state(start, view, call, manager):
    nexus = await start(manager=manager())
    me = await view(nexus)
    session = await me.create_session("api")
    changed = await me.update_session(session.id, {"a": 1})
    assert (changed.state, changed.version) == ({"a": 1, "by": "super"}, 2)
    assert (await me.update_session(session.id, {"a": None})).state == {"by": "super"}
    await call(nexus, session, key="b")
    assert (await me.session(session.id)).state == {"by": "super", "b": 1}
    assert [event.data["changed"] for event in nexus.told[1:]] == [["a", "by"], ["a"], ["b"]]


async def test_a_get_that_is_overridden_may_note_something(start, view, call):
    nexus = await start(manager=Gets())
    me = await view(nexus)
    session = await me.create_session("api")
    await call(nexus, session)
    assert (await me.session(session.id)).metadata == {"gets": 2}
    for session_id, user in (("guessed", None), (session.id, "bob")):
        with pytest.raises(SessionNotFound):
            await (await view(nexus, user)).session(session_id)


async def test_a_notify_that_is_overridden_is_called_for_each_channel(start, view, call):
    nexus = await start(manager=Notifies())
    me = await view(nexus)
    session = await me.create_session("api")
    await call(nexus, session, "mcp", key="a")
    await me.update_session(session.id, {"b": 2})
    assert nexus.session_manager.notified == [
        ("api", {"a": 1}), ("mcp", {"a": 1}), ("api", {"b": 2}), ("mcp", {"b": 2}),
    ]  # fmt: skip
    assert [event.data["channels"] for event in nexus.told if event.type == "session.updated"] == [["api", "mcp"]] * 2


async def test_versions_hold(start, view):
    nexus = await start(manager=Syncs())
    me = await view(nexus)
    session = await me.create_session("api")
    changed = await me.update_session(session.id, {"a": 1}, session.version)
    with pytest.raises(Conflict) as refused:
        await me.update_session(session.id, {"a": 2}, session.version)
    assert refused.value.details == {"version": changed.version}
    kept = await me.session(session.id)
    assert (kept.state, kept.metadata) == ({"a": 1}, {"changes": 1})


async def test_a_version_that_changes_meanwhile_is_a_conflict(start_shared, view):
    class Meanwhile(SessionManager):
        async def sync_session_state(self, session_id, state):
            session = await self.get_session(session_id)
            session.state.update(state)
            await (await view(other)).update_session(session_id, {"theirs": 1})

    other, nexus = await start_shared(), await start_shared(manager=Meanwhile())
    me = await view(nexus)
    session = await me.create_session("api")
    assert (await me.update_session(session.id, {"mine": 1})).state == {"mine": 1, "theirs": 1}
    with pytest.raises(Conflict):
        await me.update_session(session.id, {"mine": 2}, 3)
    assert (await me.session(session.id)).state == {"mine": 1, "theirs": 1}


@pytest.mark.parametrize(("changes", "message"), [({"a": "x" * 2000}, "at most 1000"), ({"a": object()}, "JSON")])
async def test_bad_states_are_the_callers_mistake(start, view, changes, message):
    nexus = await start(manager=Syncs(), session_max_bytes=1000)
    me = await view(nexus)
    session = await me.create_session("api")
    with pytest.raises(ValidationError, match=message):
        await me.update_session(session.id, changes)
    assert (await me.session(session.id)).version == 1


async def test_other_sessions_that_an_override_changes_are_kept_too(start, view):
    class Copies(SessionManager):
        def sync_session_state(self, session_id, state):
            self.get_session(session_id).state.update(state)
            self.get_session(other.id).state.update(state)
            self.notify_channel("mcp", third.id, state)

    nexus = await start(manager=Copies())
    ann = await view(nexus, "ann")
    session, other, third = [await ann.create_session("api") for _ in range(3)]
    await ann.update_session(session.id, {"a": 1})
    assert [(await ann.session(each.id)).state for each in (session, other)] == [{"a": 1}] * 2
    updates = [(event.session_id, event.data) for event in nexus.told if event.type == "session.updated"]
    assert updates == [
        (session.id, {"version": 2, "changed": ["a"]}), (other.id, {"version": 2, "changed": ["a"]}),
        (third.id, {"version": 1, "changed": [], "channels": ["mcp"]}),
    ]  # fmt: skip


async def test_a_remove_that_is_overridden_still_removes(start, view):
    class Removes(SessionManager):
        def remove_session(self, session_id):
            seen.append(session_id)
            if len(seen) == 1:
                raise PermissionDenied("Not now.")
            if len(seen) == 2:
                super().remove_session(session_id)

    seen = []
    nexus = await start(manager=Removes())
    me = await view(nexus)
    session = await me.create_session("api")
    with pytest.raises(PermissionDenied, match="Not now"):
        await me.remove_session(session.id)
    await me.remove_session(session.id)
    other = await me.create_session("api")
    await me.remove_session(other.id)
    assert seen == [session.id, session.id, other.id]
    for each in (session, other):
        with pytest.raises(SessionNotFound):
            await me.session(each.id)
    assert [event.type for event in nexus.told].count("session.removed") == 2


# Whose sessions


async def test_within_a_request_only_the_callers_sessions_are_there(start, view):
    class Spies(SessionManager):
        def sync_session_state(self, session_id, state):
            self.get_session(state["look at"])

    nexus = await start(manager=Spies())
    ann, bob = await view(nexus, "ann"), await view(nexus, "bob")
    hers, his = await ann.create_session("api"), await bob.create_session("api")
    for session_id in (his.id, "guessed"):
        with pytest.raises(SessionNotFound, match=r"^There is no session with this id\.$"):
            await ann.update_session(hers.id, {"look at": session_id})
    await ann.update_session(hers.id, {"look at": hers.id})

    @nexus.workflow
    def look_sync(session_id: str) -> dict:
        return nexus.session_manager.get_session(session_id).state

    @nexus.workflow
    async def look(session_id: str) -> dict:
        return (await nexus.session_manager.get_session(session_id)).state

    for name in ("look", "look_sync"):
        call = Invocation(name, {"session_id": his.id}, principal=Principal("bob", tenant_id="acme"))
        assert (await nexus.invoke(call)).value == {}
        for user in (Principal("ann", tenant_id="acme"), Principal("bob", tenant_id="other"), None):
            with pytest.raises(NexusError) as refused:
                await nexus.invoke(Invocation(name, {"session_id": his.id}, principal=user))
            assert refused.value.status == 500  # the workflow's mistake, as any exception of its


async def test_anothers_session_reaches_no_override(start, view):
    class Never(SessionManager):
        def sync_session_state(self, session_id, state):
            raise AssertionError

        def remove_session(self, session_id):
            raise AssertionError

    nexus = await start(manager=Never())
    session = await (await view(nexus, "ann")).create_session("api")
    bob = await view(nexus, "bob")
    for attempt in (bob.update_session(session.id, {}), bob.remove_session(session.id)):
        with pytest.raises(SessionNotFound):
            await attempt


async def test_application_code_finds_every_session(start, view, call):
    manager = SessionManager()
    nexus = await start(manager=manager)
    ann = await view(nexus, "ann")
    session = await ann.create_session("api")

    def in_a_thread():
        assert manager.get_session(session.id).user_id == "acme/ann"
        changed = manager.sync_session_state(session.id, {"a": 1})
        assert manager.notify_channel("mcp", session.id, {"a": 1}) is None
        assert manager.cleanup_session_resources(changed) is None
        made = manager.create_session("batch", "acme/bob")
        manager.remove_session(made.id)
        with pytest.raises(SessionNotFound):
            manager.get_session(made.id)
        with pytest.raises(SessionNotFound):
            manager.remove_session(made.id)
        return manager.get_expired_sessions()

    assert await asyncio.to_thread(in_a_thread) == []
    assert (await manager.get_session(session.id)).state == {"a": 1}
    await manager.notify_channel("cli", session.id, {"b": 1, "a": 2})
    await manager.cleanup_session_resources(session)
    await manager.cleanup_expired_sessions()
    assert (await ann.session(session.id)).version == 2
    assert [(event.type, event.data) for event in nexus.told if event.session_id == session.id] == [
        ("session.created", None), ("session.updated", {"version": 2, "changed": ["a"]}),
        ("session.updated", {"version": 2, "changed": ["a"], "channels": ["mcp"]}),
        ("session.updated", {"version": 2, "changed": ["a", "b"], "channels": ["cli"]}),
    ]  # fmt: skip


async def test_an_event_handler_is_application_code(start, view, eventually):
    """Also when the event comes out of an override."""
    manager = Syncs()
    nexus = await start(manager=manager)
    found = []
    hers = await (await view(nexus, "ann")).create_session("api")

    def handle(event):
        if event.type == "session.updated":
            found.append(manager.get_session(hers.id).id)

    nexus.register_event_handler(handle)
    bob = await view(nexus, "bob")
    his = await bob.create_session("api")
    await bob.update_session(his.id, {"a": 1})
    await eventually(lambda: found == [hers.id])


async def test_where_a_manager_can_not_be_used_it_says_so(make, start, view):
    manager = SessionManager()
    nexus = make(manager=manager)
    for attempt in (lambda: manager.get_session("x"), lambda: manager.notify_channel("api", "x", {})):
        with pytest.raises(ConfigurationError, match="is used while its platform is not started"):
            attempt()
    async with nexus:

        async def elsewhere():
            manager.get_session("x")

        with pytest.raises(ConfigurationError, match="on another event loop"):
            await asyncio.to_thread(asyncio.run, elsewhere())
        with pytest.raises(ConfigurationError, match="belongs to one Nexus"):
            await start(manager=manager)
    with pytest.raises(ConfigurationError, match="not started"):
        manager.get_session("x")
    await start(manager=manager)
    async with make(enable_sessions=False, manager=SessionManager()) as off:
        with pytest.raises(ConfigurationError, match="enable_sessions=False"):
            off.session_manager.get_session("x")


# Overrides that fail


class Fails(SessionManager):
    """Every method does what `self.what` says."""

    what = staticmethod(lambda: None)

    def create_session(self, channel, user_id=None):
        session = super().create_session(channel, user_id)
        self.made.append(session.id)
        return self.what() if self.broken else session

    def get_session(self, session_id):
        session = super().get_session(session_id)
        session.metadata["touched"] = True
        return self.what() if self.broken else session

    def sync_session_state(self, session_id, state):
        super().get_session(session_id).state.update(state)
        self.what()

    broken = False


def hang(manager):
    manager.gate.wait(20)
    return manager.get_session("x")


def explode():
    raise RuntimeError("the secret reason")


NONSENSE = [None, "session", 5, Session("made up"), dict]


@pytest.fixture(name="failing")
async def failing_fixture(start, view):
    manager = Fails()
    manager.made, manager.gate = [], threading.Event()
    nexus = await start(manager=manager, session_manager_timeout=0.3)
    me = await view(nexus, "ann")
    yield manager, me, await me.create_session("api"), nexus
    manager.gate.set()


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_is_an_error_whose_reason_is_in_the_log(failing, caplog, nonsense):
    manager, me, session, _ = failing
    manager.broken, manager.what = True, lambda: nonsense
    for name, attempt in (("create_session", me.create_session("api")), ("get_session", me.session(session.id))):
        with pytest.raises(NexusError, match="server's log has the reason") as refused:
            await attempt
        assert refused.value.status == 500
        assert f"The session manager's {name} returned a" in caplog.text
    await is_as_it_was(failing)


async def test_anothers_session_is_nonsense_too(start, view, caplog):
    class Mixes(SessionManager):
        def create_session(self, channel, user_id=None):
            made.append(super().create_session(channel, None if mixes else user_id))
            return made[-1]

        def get_session(self, session_id):
            super().get_session(session_id)
            return super().get_session(made[0].id)

    made, mixes = [], False
    nexus = await start(manager=Mixes())
    ann = await view(nexus, "ann")
    await ann.create_session("api")
    second = await ann.create_session("api")
    mixes = True
    for attempt, reason in (
        (ann.create_session("api"), "create_session returned a session that is not its caller's"),
        (ann.session(second.id), "get_session returned another session than the one"),
    ):
        with pytest.raises(NexusError, match="server's log"):
            await attempt
        assert reason in caplog.text
    assert await (await nexus.session_store()).service.stored.look(made[2].id) is None


async def test_what_raises_is_an_error_whose_reason_is_in_the_log(failing, caplog):
    manager, me, session, _ = failing
    manager.broken, manager.what = True, explode
    for attempt in (me.create_session("api"), me.session(session.id), me.update_session(session.id, {"a": 1})):
        with pytest.raises(NexusError) as refused:
            await attempt
        assert (refused.value.status, "secret" in refused.value.message) == (500, False)
    assert caplog.text.count("RuntimeError: the secret reason") == 3
    await is_as_it_was(failing)


async def test_what_hangs_is_unavailable_and_does_nothing_later(failing, eventually, caplog):
    manager, me, session, _ = failing
    ended = []

    def what():
        manager.gate.wait(20)
        try:
            manager.create_session("api", "acme/ann")
        except RuntimeError as exc:
            ended.append(str(exc))

    manager.broken, manager.what = True, what
    begin = time.monotonic()
    attempts = (me.create_session("api"), me.session(session.id), me.update_session(session.id, {"a": 1}))
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    assert time.monotonic() - begin < 10
    assert {type(answer) for answer in answers} == {BackendUnavailable}
    assert caplog.text.count("did not return within 0.3 s") == 3
    manager.gate.set()
    await eventually(lambda: len(ended) == 3)
    assert "failed or taken too long" in ended[0]
    await is_as_it_was(failing)


async def is_as_it_was(failing):
    """Nothing has changed, nothing is left of what was made, and the manager works as soon as it wants to."""
    manager, me, session, nexus = failing
    manager.broken, manager.what = False, lambda: None
    store = (await nexus.session_store()).service.stored
    for made in manager.made[1:]:
        assert await store.look(made) is None
    assert (await store.look(session.id)).version == 1
    assert (await me.session(session.id)).metadata == {"touched": True}
    assert (await me.update_session(session.id, {"b": 1})).state == {"b": 1}


@pytest.mark.parametrize(
    ("leave", "reason"),
    [(lambda session: setattr(session, "state", None), "NoneType as a session's state"),
     (lambda session: setattr(session, "metadata", [1]), "list as a session's metadata"),
     (lambda session: session.metadata.update(x=object()), "metadata that is not JSON")],
)  # fmt: skip
async def test_what_can_not_be_kept_is_the_managers_mistake(start, view, caplog, leave, reason):
    class Leaves(SessionManager):
        def sync_session_state(self, session_id, state):
            leave(self.get_session(session_id))

    nexus = await start(manager=Leaves())
    me = await view(nexus)
    session = await me.create_session("api")
    with pytest.raises(NexusError, match="server's log") as refused:
        await me.update_session(session.id, {})
    assert refused.value.status == 500
    assert reason in caplog.text


async def test_a_call_whose_change_is_refused_fails(start, view, call):
    class Refuses(SessionManager):
        async def sync_session_state(self, session_id, state):
            raise PermissionDenied("This session may not be changed.")

    nexus = await start(manager=Refuses())
    me = await view(nexus)
    session = await me.create_session("api")
    with pytest.raises(PermissionDenied):
        await call(nexus, session)
    assert (await me.session(session.id)).state == {}


async def test_overrides_that_hang_use_up_a_bounded_number_of_threads(start, view, monkeypatch):
    monkeypatch.setattr("nexus_sessions.overrides.THREADS", 3)
    gate, inside = threading.Event(), []

    class Hangs(SessionManager):
        def sync_session_state(self, session_id, state):
            inside.append(1)
            gate.wait(20)

    nexus = await start(manager=Hangs(), session_manager_timeout=0.1)
    me = await view(nexus)
    session = await me.create_session("api")
    for _ in range(3):
        work = (me.update_session(session.id, {"a": 1}) for _ in range(4))
        assert {type(each) for each in await asyncio.gather(*work, return_exceptions=True)} == {BackendUnavailable}
    assert len(inside) == 3
    assert (await me.session(session.id)).id == session.id  # what needs no override goes on
    gate.set()
    while len(inside) < 4:
        await asyncio.gather(me.update_session(session.id, {"a": 1}), return_exceptions=True)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_slow_override_delays_nobody_else(start, view, call, kind):
    def sleep(self, session_id, state):
        time.sleep(2)
        self.get_session(session_id).state.update(state)

    async def sleep_async(self, session_id, state):
        await asyncio.sleep(2)
        (await self.get_session(session_id)).state.update(state)

    method = sleep if kind == "sync" else sleep_async
    nexus = await start(manager=type("Sleeps", (SessionManager,), {"sync_session_state": method})())
    nexus.register("one", lambda: 1)
    me = await view(nexus)
    sessions = [await me.create_session("api") for _ in range(10)]
    slow = [asyncio.create_task(me.update_session(session.id, {"a": 1})) for session in sessions]
    lags, durations = [], []
    while not all(task.done() for task in slow):
        before = time.monotonic()
        await asyncio.sleep(0.005)
        lags.append(time.monotonic() - before - 0.005)
        before = time.monotonic()
        await nexus.invoke("one")
        await me.session(sessions[0].id)
        durations.append(time.monotonic() - before)
    assert len(lags) > 20
    assert sorted(lags)[len(lags) // 2] < 0.05
    assert max(lags) < 1.5
    assert max(durations) < 1.5
    assert [task.result().state for task in slow] == [{"a": 1}] * 10


async def test_a_caller_who_leaves_ends_its_override(start, view, eventually):
    ended = []

    class Waits(SessionManager):
        async def sync_session_state(self, session_id, state):
            try:
                await asyncio.sleep(20)
            finally:
                ended.append(1)

    nexus = await start(manager=Waits())
    me = await view(nexus)
    session = await me.create_session("api")
    task = asyncio.create_task(me.update_session(session.id, {"a": 1}))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: ended)
    assert (await me.session(session.id)).state == {}


async def test_a_session_that_is_removed_meanwhile_does_not_come_back(start, view):
    nexus = await start(manager=Syncs())
    me = await view(nexus)
    session = await me.create_session("api")

    @nexus.workflow
    async def remove(context: Context) -> str:
        context.session.state["a"] = 1
        await me.remove_session(session.id)
        return "done"

    assert (await nexus.invoke(Invocation("remove", {}, session_id=session.id))).value == "done"
    with pytest.raises(SessionNotFound):
        await me.session(session.id)
