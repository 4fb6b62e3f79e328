"""A state machine of hypothesis that compares a `RunStore` with a model. See `RunStoreContract`."""

# ruff: noqa: D102  (the rules of a machine say what they do)

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from nexus_core.runs.memory import MemoryRunStore
from nexus_core.runs.question import QuestionClosing, QuestionFilter, QuestionStatus, RunQuestion
from nexus_core.runs.record import NEXT, RunChange, RunEvent, RunFilter, RunRecord, RunStep
from nexus_core.runs.retention import RunRetention
from nexus_core.runs.status import ENDED, RunStatus

if TYPE_CHECKING:
    from nexus_core.runs.contract.base import RunStoreTests
    from nexus_core.runs.record import Written

IDS = st.sampled_from([f"{number:04x}{number * 40503 % 65536:04x}" for number in range(8)])
ACTIVE = st.sampled_from([status for status in RunStatus if status not in ENDED])
ENDS = st.sampled_from(sorted(ENDED))
TIMES = st.floats(1.0, 100.0)
TEXTS = st.binary(max_size=20)
NUMBERS = st.sampled_from([NEXT, 1, 2, 3, 4, 5])
EVENTS = st.lists(st.builds(RunEvent, NUMBERS, TEXTS), max_size=3).map(tuple)
STEPS = st.lists(st.builds(RunStep, st.integers(1, 4), st.text(max_size=5), st.integers(1, 3), TIMES), max_size=2)
OWNERS = st.sampled_from([None, "ann", "bob"])
RECORDS = st.builds(
    RunRecord, IDS, st.sampled_from(["add", "mul"]), st.sampled_from(["api", "mcp"]), TIMES, TEXTS, OWNERS,
    executor=st.sampled_from(["one", None]), attempt=st.integers(1, 2), version=st.sampled_from([None, "1"]),
)  # fmt: skip
FILTERS = st.builds(
    RunFilter, OWNERS, st.sampled_from([None, "add"]), st.sampled_from([None, *RunStatus]),
    st.sampled_from([None, "mcp"]), st.none() | TIMES, st.none() | TIMES, limit=st.integers(1, 5),
)  # fmt: skip
LIMITS = st.builds(RunRetention, st.none(), st.none() | st.integers(0, 5), st.none() | st.integers(0, 200))


class Model(MemoryRunStore):
    """The model: the simplest store, without bounds."""

    def __init__(self) -> None:
        super().__init__(10**6, 10**9, 10**12)


def run_machine(contract: RunStoreTests, examples: int) -> None:
    """Compare the stores of a contract with the model."""

    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(contract)

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    profile = settings(
        max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=checks, database=None
    )
    run_state_machine_as_test(Machine, settings=profile)


class StoreMachine(RuleBasedStateMachine):
    """Calls on a store and on the model, which must return the same."""

    def __init__(self, contract: RunStoreTests) -> None:
        super().__init__()
        self._contract = contract
        self._runner = asyncio.Runner()
        self._place = contract.place()
        self._store = contract.store(self._place)
        self._model = Model()
        self._opened = 0
        self._open()

    def _open(self) -> None:
        self._opened += 1
        self._await(self._store.open(f"one-{self._opened}"))
        self._await(self._model.open("one"))

    def _await(self, work: Any) -> Any:
        return self._runner.run(work)

    def teardown(self) -> None:
        self._await(self._store.close())
        self._runner.close()

    def _both(self, *changes: RunChange) -> None:
        expected: list[Written] = self._await(self._model.write(changes))
        assert self._await(self._store.write(changes)) == expected, changes

    @rule(records=st.lists(RECORDS, min_size=1, max_size=3), status=ACTIVE, events=EVENTS)
    def begin(self, records: list[RunRecord], status: RunStatus, events: tuple[RunEvent, ...]) -> None:
        started: dict[str, Any] = {"started_at": 1.0, "last_event": 1} if len(records) > 1 else {}
        self._both(*(replace(RunChange.begin(record, status), events=events, **started) for record in records))

    @rule(records=st.lists(RECORDS, min_size=1, max_size=3), status=ENDS, time=TIMES, result=TEXTS, events=EVENTS)
    def begin_and_end(
        self, records: list[RunRecord], status: RunStatus, time: float, result: bytes, events: tuple[RunEvent, ...]
    ) -> None:
        end: dict[str, Any] = {"status": status, "finished_at": time, "result": result, "duration": 1.5}
        first, *others = [RunChange.begin(record, started_at=1.0) for record in records]
        self._both(replace(first, **end, events=events), *(replace(each, **end) for each in others))

    @rule(run_id=IDS, attempt=st.integers(1, 2), status=st.none() | ACTIVE, events=EVENTS, steps=STEPS)
    def change(
        self, run_id: str, attempt: int, status: RunStatus | None, events: tuple[RunEvent, ...], steps: list[RunStep]
    ) -> None:
        self._both(RunChange(run_id, attempt, status=status, events=events, steps=tuple(steps)))

    @rule(run_id=IDS, attempt=st.integers(1, 2), status=ENDS, time=TIMES, events=EVENTS, twice=st.booleans())
    def end(
        self, run_id: str, attempt: int, status: RunStatus, time: float, events: tuple[RunEvent, ...], twice: bool
    ) -> None:
        end = RunChange(run_id, attempt, status=status, finished_at=time, problem={"code": "x"}, events=events)
        end = replace(end, last_event=max(event.number for event in events) + 1 if events else 0)
        self._both(*([end, end] if twice else [end]))

    @rule(run_id=IDS, status=ACTIVE, events=EVENTS)
    def change_later(self, run_id: str, status: RunStatus, events: tuple[RunEvent, ...]) -> None:
        async def write() -> list[Written]:
            change, nothing = RunChange(run_id, status=status, events=events), RunChange("no such run")
            self._model.write_later(change)
            self._store.write_later(change)
            return await self._store.write([nothing])  # it comes after what is written later

        assert self._await(write()) == [(False, 0)]

    @rule(run_id=IDS, numbers=st.sets(st.integers(1, 4), min_size=1), audience=st.sampled_from(["user:a", "user:b"]))
    def ask(self, run_id: str, numbers: set[int], audience: str) -> None:
        questions = [
            RunQuestion(run_id, number, "add", "Sure?", {}, "caller", audience, 1000.0 + number, 2000.0)
            for number in sorted(numbers)
        ]
        self._both(RunChange(run_id, status=RunStatus.WAITING, questions=tuple(questions)))

    @rule(run_id=IDS, number=st.integers(1, 4), at=st.sampled_from([1500.0, 2000.0]), by=st.sampled_from(["a", "b"]))
    def answer(self, run_id: str, number: int, at: float, by: str) -> None:
        closing = QuestionClosing(QuestionStatus.ANSWERED, at, b"1", by)
        expected = self._await(self._model.close_question(run_id, number, closing))
        assert self._await(self._store.close_question(run_id, number, closing)) == expected

    @rule(audience=st.none() | st.just(["user:a"]), is_open=st.booleans(), run_id=st.none() | IDS)
    def list_questions(self, audience: list[str] | None, is_open: bool, run_id: str | None) -> None:
        wanted = QuestionFilter(audience, run_id, is_open)
        assert self._await(self._store.questions(wanted)) == self._await(self._model.questions(wanted))

    @rule(run_id=IDS)
    def cancel(self, run_id: str) -> None:
        expected = self._await(self._model.request_cancel(run_id))
        assert self._await(self._store.request_cancel(run_id)) == expected

    @rule(keep=LIMITS, of_one=LIMITS, limit=st.integers(1, 4), dry_run=st.booleans())
    def prune(self, keep: RunRetention, of_one: RunRetention, limit: int, dry_run: bool) -> None:
        keep = replace(keep, workflows={"mul": of_one})
        self._await(self._model.prune(keep, limit=limit, dry_run=True))
        before = self._ids()
        pruned = self._await(self._store.prune(keep, limit=limit, dry_run=dry_run))
        gone = before - self._ids()
        assert pruned.runs == len(gone) or dry_run
        assert pruned.runs <= limit
        for run_id in gone:
            assert self._model._runs[run_id].state.has_ended
            self._model._drop(run_id)
        if pruned.is_complete and not dry_run:
            assert self._await(self._store.prune(keep, limit=100)).runs == 0
            assert self._await(self._model.prune(keep, limit=100)).runs == 0

    @rule()
    def reopen(self) -> None:
        if self._store.is_shared:
            self._await(self._store.close())
            self._store = self._contract.store(self._place)
            self._open()

    @rule(wanted=FILTERS)
    def find(self, wanted: RunFilter) -> None:
        found = self._await(self._store.find(wanted))
        assert [strip(each) for each in found] == [strip(each) for each in self._await(self._model.find(wanted))]

    @rule(run_id=IDS, after=st.integers(0, 4), limit=st.integers(1, 4), payloads=st.booleans())
    def read(self, run_id: str, after: int, limit: int, payloads: bool) -> None:
        for store in (self._store.events, self._store.steps):
            model: Any = getattr(self._model, store.__name__)
            assert self._await(store(run_id, after, limit)) == self._await(model(run_id, after, limit))
        found = self._await(self._store.get(run_id, payloads=payloads))
        assert strip(found) == strip(self._await(self._model.get(run_id, payloads=payloads)))

    def _ids(self) -> set[str]:
        return {state.record.id for state in self._await(self._store.find(RunFilter(limit=1000)))}

    @invariant()
    def holds_the_same_runs(self) -> None:
        assert self._ids() == set(self._model._runs)


def strip(state: Any) -> Any:
    """Return a state without the time of its cancellation, which each store takes from its own clock."""
    if state is None:
        return None
    return (
        replace(state, cancel_requested_at=None)
        if state.cancel_requested_at is None
        else replace(state, cancel_requested_at=1.0)
    )
