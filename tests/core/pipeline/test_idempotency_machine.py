"""Idempotency against a simple model: callers, workflows and keys in any order, calls that overlap, leave and fail."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nexus_core import Conflict, Invocation, NexusError, Principal, Result, ValidationError, WorkflowError
from nexus_core.testing import eventually, isolated_nexus

USERS = st.sampled_from([None, "ann", "bob"])
NAMES = st.sampled_from(["one", "two"])
KEYS = st.sampled_from(["k", "l", "k l"])
PARAMS = st.integers(0, 1)
FAILS = st.booleans()


class Idempotency(RuleBasedStateMachine):
    """The model: for each caller, workflow and key, what the first call was given, and how it ended once it has."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.nexus = isolated_nexus()
        self.ran: list[Any] = []
        self.gates: list[asyncio.Event] = []
        self.first: dict[Any, tuple[Any, Any]] = {}
        self.running: dict[Any, tuple[asyncio.Event, Any, asyncio.Task[Result]]] = {}

        async def work(n: int, fail: bool, wait: bool) -> int:
            self.ran.append(n)
            if wait:
                self.gates.append(asyncio.Event())
                await self.gates[-1].wait()
            if fail:
                raise WorkflowError(f"failed as run {len(self.ran)}")
            return len(self.ran)

        for name in ("one", "two"):
            self.nexus.register(name, work)

    @initialize()
    def start(self) -> None:
        self.do(self.nexus.__aenter__())

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def teardown(self) -> None:
        for gate, _, task in self.running.values():
            gate.set()
            self.do(self.outcome(task))
        self.do(self.nexus.__aexit__())
        self.loop.close()

    def invocation(self, user: str | None, name: str, key: str, n: int, fail: bool, wait: bool) -> Invocation:
        params = {"n": n, "fail": fail, "wait": wait}
        return Invocation(name, params, idempotency_key=key, principal=None if user is None else Principal(user))

    async def outcome(self, call: Any) -> Any:
        try:
            result = await call
        except NexusError as exc:
            return type(exc), exc.message, bool(exc.details.get("replayed"))
        return Result, result.value, result.replayed

    @rule(user=USERS, name=NAMES, key=KEYS, n=PARAMS, fail=FAILS, wait=st.booleans())
    def call(self, user: Any, name: str, key: str, n: int, fail: bool, wait: bool) -> None:
        scope, given = (user, name, key), (n, fail, wait)
        known, before = self.first.get(scope), len(self.ran)
        if known is None and wait:
            self.begin(scope, given)
            return
        found = self.do(self.outcome(self.nexus.invoke(self.invocation(*scope, *given))))
        if known is None:
            assert len(self.ran) == before + 1
            assert not found[2]
            self.first[scope] = given, found
            return
        assert len(self.ran) == before
        if given != known[0]:
            assert found[0] is ValidationError
        elif scope in self.running:
            assert found[0] is Conflict
        else:
            assert found == (*known[1][:2], True)

    def begin(self, scope: Any, given: Any) -> None:
        count = len(self.gates)
        task = self.loop.create_task(self.nexus.invoke(self.invocation(*scope, *given)))
        self.do(eventually(lambda: len(self.gates) > count))
        self.running[scope] = self.gates[-1], given, task
        self.first[scope] = given, None

    @precondition(lambda self: self.running)
    @rule(data=st.data(), leaves=st.booleans())
    def end(self, data: Any, leaves: bool) -> None:
        scope = data.draw(st.sampled_from(sorted(self.running, key=repr)))
        gate, given, task = self.running[scope]
        if leaves:  # it goes on without its caller
            task.cancel()
            self.do(asyncio.wait({task}))
        gate.set()
        self.do(eventually(lambda: len(self.nexus.runs.running()) < len(self.running)))
        del self.running[scope]
        if not leaves:
            self.first[scope] = given, self.do(self.outcome(task))
            return
        again = self.do(self.outcome(self.nexus.invoke(self.invocation(*scope, *given))))
        assert again[2]
        self.first[scope] = given, again

    @invariant()
    def each_key_ran_once(self) -> None:
        assert len(self.ran) == len(self.first)


TestIdempotency = Idempotency.TestCase
TestIdempotency.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
