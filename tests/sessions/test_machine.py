"""Two callers and two processes against a model of what sessions are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from served import SECRET, token

USERS = st.sampled_from(["ann", "bob"])
PROCESSES = st.integers(0, 1)
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=3), st.lists(st.booleans(), max_size=2))
CHANGES = st.dictionaries(NAMES, VALUES, max_size=3)


class Sessions(RuleBasedStateMachine):
    """The model: whose each session is, its state, its version. Every answer must be what the model says."""

    urls: list[str]
    client: httpx2.Client
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, dict[str, Any]] = {}

    def ask(self, process: int, user: str, method: str, path: str, **request: Any) -> httpx2.Response:
        headers = {"authorization": token(user)} | request.pop("headers", {})
        return self.client.request(method, f"{self.urls[process]}/api/{path}", headers=headers, **request)

    def check(self, answer: httpx2.Response, session_id: str, user: str, status: int = 200) -> dict[str, Any] | None:
        """Check an answer about a session. Returns the model of it, if the user has it."""
        known = self.model.get(session_id)
        if known is None or known["user"] != user:
            assert (answer.status_code, answer.json()["detail"]) == (404, "There is no session with this id.")
            return None
        assert answer.status_code == status, answer.text
        return known

    @rule(target=sessions, process=PROCESSES, user=USERS)
    def create(self, process: int, user: str) -> str:
        made = self.ask(process, user, "POST", "sessions").json()
        self.model[made["session_id"]] = {"user": user, "state": {}, "version": 1}
        return str(made["session_id"])

    @rule(process=PROCESSES, user=USERS, session_id=sessions)
    def show(self, process: int, user: str, session_id: str) -> None:
        answer = self.ask(process, user, "GET", f"sessions/{session_id}")
        if known := self.check(answer, session_id, user):
            assert (answer.json()["state"], answer.json()["version"]) == (known["state"], known["version"])

    @rule(process=PROCESSES, user=USERS, session_id=sessions, changes=CHANGES, wrong=st.sampled_from([None, 0, 1, -1]))
    def change(self, process: int, user: str, session_id: str, changes: dict[str, Any], wrong: int | None) -> None:
        version = self.model.get(session_id, {"version": 1})["version"]
        body = {"state": changes} | ({} if wrong is None else {"version": version + wrong})
        answer = self.ask(process, user, "PATCH", f"sessions/{session_id}", json=body)
        if known := self.check(answer, session_id, user, 409 if wrong else 200):
            if wrong:
                assert answer.json()["version"] == known["version"]
                return
            known["state"] = {n: v for n, v in (known["state"] | changes).items() if v is not None}
            known["version"] += 1
            assert answer.json()["state"] == known["state"]

    @rule(process=PROCESSES, user=USERS, session_id=sessions, key=NAMES, value=st.integers(-5, 5))
    def call(self, process: int, user: str, session_id: str, key: str, value: int) -> None:
        """A workflow that changes the session of its call."""
        body, headers = {"key": key, "value": value}, {"x-nexus-session": session_id}
        answer = self.ask(process, user, "POST", "workflows/remember/execute", json=body, headers=headers)
        if known := self.check(answer, session_id, user):
            known["version"] += known["state"].get(key) != value
            known["state"][key] = value
            assert answer.json()["result"] == known["state"]

    @rule(target=sessions, process=PROCESSES, user=USERS, session_id=consumes(sessions))
    def renew(self, process: int, user: str, session_id: str) -> str:
        answer = self.ask(process, user, "POST", f"sessions/{session_id}/renew")
        known = self.check(answer, session_id, user, 201)
        if known is None:
            return session_id
        del self.model[session_id]
        new = str(answer.json()["session_id"])
        self.model[new] = known | {"version": known["version"] + 1}
        return new

    @rule(process=PROCESSES, user=USERS, session_id=sessions)
    def remove(self, process: int, user: str, session_id: str) -> None:
        answer = self.ask(process, user, "DELETE", f"sessions/{session_id}")
        if self.check(answer, session_id, user, 204):
            del self.model[session_id]

    @invariant()
    def both_processes_say_the_same(self) -> None:
        for session_id, known in self.model.items():
            for process in (0, 1):
                shown = self.ask(process, known["user"], "GET", f"sessions/{session_id}").json()
                assert (shown["state"], shown["version"]) == (known["state"], known["version"])


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_two_callers_and_two_processes(start: Any, redis_server: Any, store: str, tmp_path: Path) -> None:
    shared = {
        "redis_url": redis_server.url,
        "redis_timeout": 10,
        "session_backend": store,
        "enable_auth": "true",
        "jwt_secret": SECRET,
    }
    if store == "sqlite":
        shared["sqlite_path"] = str(tmp_path / "sessions.db")
    processes = [start(**shared) for _ in range(2)]
    with httpx2.Client(timeout=20) as client:
        Sessions.urls, Sessions.client = [process.urls["api"] for process in processes], client
        checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
        limits = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=checks)
        run_state_machine_as_test(Sessions, settings=limits)
