"""`MemoryRunStore`: the `RunStore` of one process, bounded for the whole and for each caller."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import replace
from heapq import nlargest
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from nexus_core.runs.implied_events import with_implied
from nexus_core.runs.local_questions import LocalQuestions
from nexus_core.runs.record import NEXT, RunEvent, RunState, Written
from nexus_core.runs.retention import Pruned
from nexus_core.runs.status import RunStatus
from nexus_core.runs.store import LEASE_SECONDS, PRUNED, REAPED, RunStore
from nexus_core.state.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nexus_core.runs.question import QuestionClosing, QuestionFilter, RunQuestion
    from nexus_core.runs.record import RunChange, RunFilter, RunStep
    from nexus_core.runs.retention import RunRetention
    from nexus_core.state.shares import Share

RUN_BYTES = 1000
"""What a run counts for in addition to its parameters, result and events, when deciding who has the most."""

EVENTS = 10_000
"""How many of its latest events are kept for each run."""

_number = attrgetter("number")


class MemoryRunStore(RunStore):
    """The runs of this process. Ended runs are bounded in time, in count and in bytes.

    Where there are too many, the oldest of the caller who has the most goes: a caller with few runs keeps them however
    many others make.

    Args:
        history: How many ended runs are kept.
        history_bytes: How many bytes of their parameters, results and events.
        history_ttl: For how many seconds.
        clock: Returns the time in seconds since the epoch.
    """

    name = "memory"
    is_shared = False

    def __init__(
        self, history: int = 1000, history_bytes: int = 64 * 1024 * 1024, history_ttl: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        super().__init__()
        self._history = history
        self._history_bytes = history_bytes
        self._history_ttl = history_ttl
        self._clock = clock
        self._runs: dict[str, _KeptRun] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._kept = Shares()
        self._questions = LocalQuestions()
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        self._cancels: set[Callable[[str], None]] = set()

    async def open(self, executor: str) -> None:
        """See `RunStore.open`."""
        self.executor = executor

    async def close(self) -> None:
        """See `RunStore.close`. The runs stay."""

    async def check(self) -> dict[str, Any]:
        """See `RunStore.check`."""
        return {"runs": len(self._runs)}

    async def renew(self, lease: float = LEASE_SECONDS) -> None:
        """See `RunStore.renew`: the runs end with their process."""

    async def expired(self, limit: int = REAPED) -> list[RunState]:
        """See `RunStore.expired`."""
        return []

    async def write(self, changes: Sequence[RunChange]) -> list[Written]:
        """See `RunStore.write`."""
        return [self._write(change) for change in changes]

    def write_later(self, change: RunChange) -> None:
        """See `RunStore.write_later`. It is written at once."""
        self._write(change)

    def _write(self, change: RunChange) -> Written:
        run = self._runs.get(change.run_id)
        if run is None:
            if change.record is None:
                return Written(False, 0)
            run = self._runs[change.run_id] = _KeptRun(change.record)
        elif change.record is not None and (not _is_same_run(run, change) or not change.ends):
            return Written(_is_same_run(run, change), run.last_event)
        if run.state.has_ended:
            return Written(run.is_same_end(change), run.last_event)
        if change.attempt != run.state.record.attempt:
            return Written(False, run.last_event)
        run.apply(change)
        for question in change.questions:
            if self._questions.add(question):
                run.size += len(question.encode())
        if change.ends:
            self._questions.withdraw(change.run_id, change.finished_at or self._clock())
            self._end(run)
        self._notify(change.run_id)
        return Written(True, run.last_event)

    def _end(self, run: _KeptRun) -> None:
        run_id = run.state.record.id
        self._ended[run_id] = None
        run.share = self._kept.add(run.state.record.owner or "", run_id, run.size + RUN_BYTES)
        while len(self._ended) > self._history or self._kept_bytes > self._history_bytes:
            self._drop(next(iter(self._kept.heaviest().sizes)))
        self._drop_expired()

    @property
    def _kept_bytes(self) -> int:
        return self._kept.size - self._kept.count * RUN_BYTES

    def _drop(self, run_id: str) -> None:
        run = self._runs.pop(run_id)
        del self._ended[run_id]
        self._questions.forget(run_id)
        assert run.share is not None
        self._kept.remove(run.share, run_id)

    def _drop_expired(self) -> None:
        """Drop the runs that ended too long ago. They are in the order in which they ended."""
        since = self._clock() - self._history_ttl
        while self._ended and (self._runs[oldest := next(iter(self._ended))].state.finished_at or 0.0) < since:
            self._drop(oldest)

    async def get(self, run_id: str, *, payloads: bool = True) -> RunState | None:
        """See `RunStore.get`."""
        self._drop_expired()
        run = self._runs.get(run_id)
        return None if run is None else run.read(payloads=payloads)

    async def find(self, wanted: RunFilter) -> list[RunState]:
        """See `RunStore.find`."""
        self._drop_expired()
        fitting = (run.state for run in self._runs.values() if wanted.matches(run.state))
        newest = nlargest(wanted.limit, fitting, key=attrgetter("cursor"))
        return [self._runs[state.record.id].read(payloads=False) for state in newest]

    async def events(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunEvent]:
        """See `RunStore.events`."""
        run = self._runs.get(run_id)
        return [] if run is None else with_implied(run.state, run.events_after(after, limit), after, limit)

    async def steps(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunStep]:
        """See `RunStore.steps`."""
        run = self._runs.get(run_id)
        return [] if run is None else [run.steps[number] for number in sorted(run.steps) if number > after][:limit]

    async def take(self, run_id: str) -> RunState | None:
        """See `RunStore.take`."""
        run = self._runs.get(run_id)
        if run is None or run.state.has_ended:
            return None
        record = run.state.record
        attempt = record.attempt if record.executor is None else record.attempt + 1
        run.state = replace(
            run.state, record=replace(record, attempt=attempt, executor=self.executor), status=RunStatus.RUNNING,
            started_at=run.state.started_at or self._clock(),
        )  # fmt: skip
        self._notify(run_id)
        return run.state

    async def question(self, run_id: str, number: int) -> RunQuestion | None:
        """See `RunStore.question`."""
        return await self._questions.question(run_id, number)

    async def questions(self, wanted: QuestionFilter) -> list[RunQuestion]:
        """See `RunStore.questions`."""
        return await self._questions.questions(wanted)

    async def close_question(self, run_id: str, number: int, closing: QuestionClosing) -> bool:
        """See `RunStore.close_question`."""
        is_closed = await self._questions.close_question(run_id, number, closing)
        self._notify(run_id)
        return is_closed

    async def asked_permissions(self) -> list[str]:
        """See `RunStore.asked_permissions`."""
        return await self._questions.asked_permissions()

    async def request_cancel(self, run_id: str) -> bool:
        """See `RunStore.request_cancel`."""
        run = self._runs.get(run_id)
        if run is None or run.state.has_ended:
            return False
        if run.state.cancel_requested_at is None:
            run.state = replace(run.state, cancel_requested_at=self._clock())
        if run.state.record.executor == self.executor:
            for listener in [*self._cancels]:
                listener(run_id)
        self._notify(run_id)
        return True

    def _notify(self, run_id: str) -> None:
        for listener in [*self._watchers.get(run_id, ())]:
            listener()

    def on_cancel(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See `RunStore.on_cancel`."""
        self._cancels.add(listener)
        return lambda: self._cancels.discard(listener)

    def watch(self, run_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """See `RunStore.watch`."""
        self._watchers.setdefault(run_id, set()).add(listener)
        return lambda: self._unwatch(run_id, listener)

    def _unwatch(self, run_id: str, listener: Callable[[], None]) -> None:
        watchers = self._watchers.get(run_id, set())
        watchers.discard(listener)
        if not watchers:
            self._watchers.pop(run_id, None)

    async def prune(self, keep: RunRetention, *, limit: int = PRUNED, dry_run: bool = False) -> Pruned:
        """See `RunStore.prune`."""
        beyond = self._beyond(keep, [*self._runs.values()])
        for workflow, limits in keep.workflows.items():
            beyond |= self._beyond(
                limits, [each for each in self._runs.values() if each.state.record.workflow == workflow]
            )
        doomed = [self._runs[run_id] for run_id in self._ended if run_id in beyond][:limit]
        if not dry_run:
            for run in doomed:
                self._drop(run.state.record.id)
        return Pruned(len(doomed), sum(run.size for run in doomed), len(beyond) <= limit)

    def _beyond(self, keep: RunRetention, every: list[_KeptRun]) -> set[str]:
        """Return the ids of the runs that the limits for these remove: of those that have ended, oldest first."""
        ended = sorted((run for run in every if run.state.has_ended), key=lambda run: run.state.finished_at or 0.0)
        count, size = len(every), sum(run.size for run in every)
        since = None if keep.max_age is None else self._clock() - keep.max_age
        beyond = set()
        for run in ended:
            is_old = since is not None and (run.state.finished_at or 0.0) < since
            is_many = keep.max_runs is not None and count > keep.max_runs
            is_large = keep.max_bytes is not None and size > keep.max_bytes
            if is_old or is_many or is_large:
                beyond.add(run.state.record.id)
                count, size = count - 1, size - run.size
        return beyond


class _KeptRun:
    """A run, its events and its steps."""

    __slots__ = ("_events", "last_event", "share", "size", "state", "steps")

    def __init__(self, record: Any) -> None:
        self.state = RunState(record, params_size=len(record.params or b""))
        self.size = self.state.params_size
        self.last_event = 0
        self.steps: dict[int, RunStep] = {}
        self.share: Share | None = None
        self._events: list[RunEvent] = []

    def apply(self, change: RunChange) -> None:
        """Apply a change that fits."""
        for event in change.events:
            self._append(event)
        self.last_event = max(self.last_event, change.last_event)
        self.steps |= {step.number: step for step in change.steps}
        self.size += len(change.result or b"")
        before = self.state
        self.state = replace(
            before,
            status=change.status or before.status,
            started_at=before.started_at if change.started_at is None else change.started_at,
            finished_at=change.finished_at,
            result=change.result,
            problem=change.problem,
            result_size=len(change.result or b""),
            last_event=self.last_event,
            duration=change.duration,
        )

    def _append(self, event: RunEvent) -> None:
        number = self.last_event + 1 if event.number == NEXT else event.number
        if number <= self.last_event:
            return
        self._events.append(event if number == event.number else RunEvent(number, event.body))
        self.last_event = number
        self.size += len(event.body)
        if len(self._events) > 2 * EVENTS:
            self.size -= sum(len(each.body) for each in self._events[:EVENTS])
            del self._events[:EVENTS]

    def is_same_end(self, change: RunChange) -> bool:
        """Whether a change is the one that has ended the run."""
        state, end = self.state, (change.attempt, change.status, change.finished_at)
        return end == (state.record.attempt, state.status, state.finished_at)

    def read(self, *, payloads: bool) -> RunState:
        """Return the run as a reader gets it."""
        if payloads:
            return self.state
        return replace(self.state, record=replace(self.state.record, params=None), result=None)

    def events_after(self, number: int, limit: int) -> list[RunEvent]:
        """Return the events after a number."""
        begin = bisect_right(self._events, number, key=_number)
        return self._events[begin : begin + limit]


def _is_same_run(run: _KeptRun, change: RunChange) -> bool:
    stored, record = run.state.record, change.record
    assert record is not None
    return (stored.executor, stored.accepted_at) == (record.executor, record.accepted_at)
