"""Two callers and two platforms on one file against a model of what sessions are, with a manager and without."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from guide_manager import AsyncSessionManager, EnterpriseSessionManager
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from nexus_core import Conflict, SessionNotFound

USERS = st.sampled_from(["ann", "bob", None])
PLATFORMS = st.integers(0, 1)
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=3), st.lists(st.booleans(), max_size=2))
CHANGES = st.dictionaries(NAMES, VALUES, max_size=3)


class Sessions(RuleBasedStateMachine):
    """The model: whose each session is, its state, its version. Every answer must be what the model says."""

    runner = platforms = views = view = call = None
    managed = False
    sessions = Bundle("sessions")

    def __init__(self):
        super().__init__()
        self.model = {}

    def ask(self, work):
        try:
            return self.runner.run(work)
        except (SessionNotFound, Conflict) as exc:
            return exc

    def known(self, answer, session_id, user):
        """Return the model of a session, if the user has it; if not, the answer must be that there is none."""
        known = self.model.get(session_id)
        if known is None or known["user"] != user:
            assert isinstance(answer, SessionNotFound)
            assert answer.message == "There is no session with this id."
            return None
        assert not isinstance(answer, SessionNotFound)
        return known

    @rule(target=sessions, which=PLATFORMS, user=USERS)
    def create(self, which, user):
        async def create():
            return await (await self.view(self.platforms[which], user)).create_session("api")

        made = self.ask(create())
        assert made.metadata.get("tenant_id") == ("acme" if user and self.managed else None)
        self.model[made.id] = {"user": user, "state": {}, "version": made.version, "channels": {"api"}}
        return made.id

    @rule(which=PLATFORMS, user=USERS, session_id=sessions, changes=CHANGES, wrong=st.sampled_from([None, 0, 1, -1]))
    def change(self, which, user, session_id, changes, wrong):
        version = self.model.get(session_id, {"version": 1})["version"]
        given = None if wrong is None else version + wrong
        answer = self.ask(self.views[which][user].update_session(session_id, changes, given))
        if known := self.known(answer, session_id, user):
            if wrong:
                assert answer.details == {"version": known["version"]}
                return
            state = {name: value for name, value in (known["state"] | changes).items() if value is not None}
            gone = {name for name, value in changes.items() if value is None and name not in known["state"]}
            changed = state != known["state"] or bool(gone)
            known["version"] += changed or not self.managed  # a manager's change that changes nothing is none
            known["state"] = state
            assert (answer.state, answer.version) == (known["state"], known["version"])

    @rule(which=PLATFORMS, user=USERS, session_id=sessions, key=NAMES, value=st.integers(-5, 5),
          channel=st.sampled_from(["api", "mcp"]))  # fmt: skip
    def use(self, which, user, session_id, key, value, channel):
        class Named:
            id = session_id

        answer = self.ask(self.call(self.platforms[which], Named, channel, user, key=key, value=value))
        if known := self.known(answer, session_id, user):
            known["version"] += known["state"].get(key) != value or channel not in known["channels"]
            known["state"][key] = value
            known["channels"].add(channel)
            assert answer.value == known["state"]

    @rule(target=sessions, which=PLATFORMS, user=USERS, session_id=consumes(sessions))
    def renew(self, which, user, session_id):
        known = self.model.get(session_id)
        answer = self.ask(self.views[which][user].renew_session(session_id))
        if known is not None and known["user"] is None:  # a login takes over what nobody owns
            known["user"] = user
        if self.known(answer, session_id, user) is None:
            return session_id
        del self.model[session_id]
        self.model[answer.id] = known | {"version": known["version"] + 1}
        return answer.id

    @rule(which=PLATFORMS, user=USERS, session_id=sessions)
    def remove(self, which, user, session_id):
        answer = self.ask(self.views[which][user].remove_session(session_id))
        if self.known(answer, session_id, user):
            del self.model[session_id]

    @invariant()
    def both_platforms_say_the_same(self):
        for session_id, known in self.model.items():
            for views in self.views:
                shown = self.ask(views[known["user"]].session(session_id))
                assert (shown.state, shown.version) == (known["state"], known["version"])
                assert shown.active_channels == known["channels"]


@pytest.mark.parametrize("manager", [None, EnterpriseSessionManager, AsyncSessionManager])
def test_two_callers_and_two_platforms(make, view, call, tmp_path, manager):
    async def begin(stack):
        options = {"session_backend": "sqlite", "sqlite_path": str(tmp_path / "state.db")}
        platforms = [await stack.enter_async_context(make(manager=manager and manager(), **options)) for _ in range(2)]
        return platforms, [{user: await view(nexus, user) for user in ("ann", "bob", None)} for nexus in platforms]

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        Sessions.runner, Sessions.managed = runner, manager is not None
        Sessions.view, Sessions.call = staticmethod(view), staticmethod(call)
        Sessions.platforms, Sessions.views = runner.run(begin(stack))
        limits = settings(
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        )
        run_state_machine_as_test(Sessions, settings=limits)
        runner.run(stack.aclose())
