"""Runs as rows of a table, the same ones in SQLite and in PostgreSQL."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.runs.record import NEXT, PrincipalRecord, RunEvent, RunRecord, RunState, RunStep, Written
from nexus_core.runs.status import ENDED, RunStatus
from nexus_core.runs.stored_text import stored_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nexus_core.runs.question import RunQuestion
    from nexus_core.runs.record import RunChange

EVENTS = 10_000
"""How many of its latest events are kept for each run, about."""

EVENTS_TRIMMED = 1000
"""Older events are removed each time as many have come."""

COLUMNS = (
    "id, accepted_at, workflow, channel, owner, status, executor, attempt, started_at, finished_at, cancel_at, "
    "last_event, params_size, result_size, problem, details, duration"
)
"""The columns of `state_of`."""

INLINE_BYTES = 8 * 1024
"""Parameters and results of up to so many bytes may be in the row of their run."""

CHANGING = "id, n, accepted_at, workflow, executor, attempt, status, started_at, finished_at, last_event, size, asked"
"""The columns of `RunRow.of`."""

INSERTED = (
    "id, accepted_at, workflow, channel, owner, status, executor, attempt, started_at, finished_at, duration, "
    "last_event, size, params_size, result_size, problem, details, params, result"
)
"""The columns of `row_of`."""

_DETAILS = ("session_id", "deadline", "version", "schema_hash", "trace", "has_key", "parent", "durable", "redacted")


def details_of(record: RunRecord) -> bytes:
    """Return the members of a record that no query asks for, as JSON text."""
    members = {name: value for name in _DETAILS if (value := getattr(record, name))}
    if (principal := record.principal) is not None:
        members["principal"] = {name: getattr(principal, name) for name in principal.__slots__}
    return jsontext.encode(members)


def state_of(row: Sequence[Any], params: bytes | None = None, result: bytes | None = None) -> RunState:
    """Return the run of a row with the `COLUMNS`.

    Args:
        row: The row.
        params: The parameters, where they were read.
        result: The result, where it was read.
    """
    (
        run_id, accepted_at, workflow, channel, owner, status, executor, attempt, started_at, finished_at, cancel_at,
        last_event, params_size, result_size, problem, details, duration,
    ) = row  # fmt: skip
    members = jsontext.parse_trusted(details)
    if (principal := members.pop("principal", None)) is not None:
        permissions, scopes = tuple(principal["permissions"]), tuple(principal["scopes"])
        members["principal"] = PrincipalRecord(principal["user_id"], permissions, scopes, principal["tenant_id"])
    record = RunRecord(
        run_id, workflow, channel, accepted_at, params, owner, attempt=attempt, executor=executor, **members
    )
    error = None if problem is None else jsontext.parse_trusted(problem)
    return RunState(
        record, RunStatus(status), started_at, finished_at, result, error, params_size, result_size, last_event,
        cancel_at, duration,
    )  # fmt: skip


def row_of(
    record: RunRecord, status: str, started_at: float | None, finished_at: float | None, duration: float | None,
    last_event: int, size: int | None, problem: bytes | None, result: bytes | None,
) -> tuple[Any, ...]:  # fmt: skip
    """Return the row of a run that begins: the columns `INSERTED`. ``size`` is None where it has no events."""
    params = record.params
    params_size, result_size = 0 if params is None else len(params), 0 if result is None else len(result)
    return (
        record.id, record.accepted_at, record.workflow, record.channel, record.owner, str(status), record.executor,
        record.attempt, started_at, finished_at, duration, last_event,
        params_size + result_size if size is None else size, params_size, result_size, problem, details_of(record),
        params, result,
    )  # fmt: skip


def whole_row(change: RunChange) -> tuple[Any, ...]:
    """Return the row of a run that is written as a whole, see `RunChange.is_whole`: the columns `INSERTED`."""
    assert change.record is not None
    assert change.status is not None
    problem = None if change.problem is None else stored_text(change.problem)
    return row_of(
        change.record, change.status, change.started_at, change.finished_at, change.duration, change.last_event, None,
        problem, change.result,
    )  # fmt: skip


def step_body(step: RunStep) -> bytes:
    """Return a step as JSON text."""
    return stored_text(asdict(step))


def step_of(body: bytes) -> RunStep:
    """Return the step of a JSON text."""
    return RunStep(**jsontext.parse_trusted(body))


@dataclass(slots=True)
class RunRow:
    """A run while changes are applied to it: what decides about them, and what has to be written.

    Attributes:
        number: The row's key; None for a run that begins.
        record: The run, if it begins.
        size: Bytes of parameters, result and events.
        added: Bytes that the changes have added to it.
        asked: Number of the latest question.
        events, steps, questions: What the changes have added.
        is_changed: Whether they have changed anything.
        first_event: Number of the latest event before the changes.
    """

    id: str
    number: int | None
    accepted_at: float
    workflow: str
    executor: str | None
    attempt: int
    status: str
    started_at: float | None = None
    finished_at: float | None = None
    duration: float | None = None
    last_event: int = 0
    size: int = 0
    record: RunRecord | None = None
    result: bytes | None = None
    problem: bytes | None = None
    added: int = 0
    first_event: int = 0
    events: list[RunEvent] = field(default_factory=list)
    steps: dict[int, RunStep] = field(default_factory=dict)
    asked: int = 0
    questions: list[RunQuestion] = field(default_factory=list)
    is_changed: bool = False

    @classmethod
    def of(cls, row: Sequence[Any]) -> RunRow:
        """Return the run of a row with the columns `CHANGING`."""
        (
            run_id, number, accepted_at, workflow, executor, attempt, status, started_at, finished_at, last, size,
            asked,
        ) = row  # fmt: skip
        return cls(
            run_id, number, accepted_at, workflow, executor, attempt, status, started_at, finished_at, None, last, size,
            first_event=last, asked=asked,
        )  # fmt: skip

    @classmethod
    def new(cls, record: RunRecord) -> RunRow:
        """Return a run that begins."""
        row = cls(
            record.id, None, record.accepted_at, record.workflow, record.executor, record.attempt, RunStatus.PENDING,
            record=record,
        )  # fmt: skip
        row.added = row.size = len(record.params or b"")
        return row

    @property
    def forgotten_events(self) -> int:
        """The number up to which events are to be removed; 0 for none."""
        if self.last_event // EVENTS_TRIMMED == self.first_event // EVENTS_TRIMMED:
            return 0
        return max(0, self.last_event - EVENTS)

    @property
    def withdraws(self) -> bool:
        """Whether the run has ended and may still ask something."""
        return self.asked > 0 and self.status in ENDED

    def is_begun_by(self, record: RunRecord) -> bool:
        """Whether a record is the one that this run has begun with."""
        return (self.executor, self.accepted_at) == (record.executor, record.accepted_at)

    def apply(self, change: RunChange) -> Written:
        """Apply a change, if it fits."""
        if self.status in ENDED:
            end = (change.attempt, change.status, change.finished_at)
            return Written(end == (self.attempt, self.status, self.finished_at), self.last_event)
        if change.attempt != self.attempt:
            return Written(False, self.last_event)
        self.is_changed = True
        before = self.size
        for event in change.events:
            self._append(event)
        self.last_event = max(self.last_event, change.last_event)
        self.steps |= {step.number: step for step in change.steps}
        for question in change.questions:
            self._ask(question)
        self.status = change.status or self.status
        self.started_at = self.started_at if change.started_at is None else change.started_at
        self.finished_at, self.duration = change.finished_at, change.duration
        self.result = change.result
        self.problem = None if change.problem is None else stored_text(change.problem)
        self.size += len(change.result or b"")
        self.added += self.size - before
        return Written(True, self.last_event)

    @property
    def inserted(self) -> tuple[Any, ...]:
        """The row of a run that begins: the columns `INSERTED`."""
        assert self.record is not None
        return row_of(
            self.record, self.status, self.started_at, self.finished_at, self.duration, self.last_event, self.size,
            self.problem, self.result,
        )  # fmt: skip

    def _append(self, event: RunEvent) -> None:
        number = self.last_event + 1 if event.number == NEXT else event.number
        if number > self.last_event:
            self.events.append(RunEvent(number, event.body))
            self.last_event = number
            self.size += len(event.body)

    def _ask(self, question: RunQuestion) -> None:
        if question.number > self.asked:
            self.questions.append(question)
            self.asked = question.number
            self.size += len(question.encode())


def apply_changes(rows: dict[str, RunRow], changes: Sequence[RunChange]) -> list[Written]:
    """Apply changes to the rows that there are, and add those of runs that begin.

    Args:
        rows: The rows of all runs that the changes name, as far as they exist, by run id.
        changes: The changes, in order.
    """
    return [_apply(rows, change) for change in changes]


def _apply(rows: dict[str, RunRow], change: RunChange) -> Written:
    row, record = rows.get(change.run_id), change.record
    if row is None:
        if record is None:
            return Written(False, 0)
        row = rows[change.run_id] = RunRow.new(record)
    elif record is not None and not (change.ends and row.is_begun_by(record)):
        return Written(row.is_begun_by(record), row.last_event)
    return row.apply(change)


def split_whole(changes: Sequence[RunChange]) -> tuple[list[RunChange], Sequence[RunChange]]:
    """Return the changes that may be inserted without a look at what is stored, and the others.

    The former are small runs that are written as a whole, where no other change is of the same run.
    """
    whole: list[RunChange] = []
    others: list[RunChange] = []
    for change in changes:
        (whole if change.is_whole and change.size <= INLINE_BYTES else others).append(change)
    runs = {change.run_id for change in whole}
    if len(runs) < len(whole) or not runs.isdisjoint(change.run_id for change in others):
        return [], changes
    return whole, others


def joined(changes: Sequence[RunChange], whole: Iterable[RunChange], written: Iterable[Written]) -> list[Written]:
    """Return what became of changes.

    Args:
        changes: The changes.
        whole: Those of them that were inserted as a whole.
        written: What became of the others, in order.
    """
    inserted, rest = {change.run_id for change in whole}, iter(written)
    return [Written(True, each.last_event) if each.run_id in inserted else next(rest) for each in changes]


def usage_of(rows: Iterable[RunRow], whole: Iterable[RunChange]) -> dict[str, tuple[int, int]]:
    """Return how many runs, and bytes of them, were added to each workflow.

    Args:
        rows: The rows that changes were applied to.
        whole: The runs that were inserted as a whole.
    """
    added = [(row.workflow, int(row.record is not None), row.added) for row in rows if row.is_changed]
    added += [(change.record.workflow, 1, change.size) for change in whole if change.record is not None]
    usage: dict[str, tuple[int, int]] = {}
    for workflow, runs, size in added:
        before = usage.get(workflow, (0, 0))
        usage[workflow] = (before[0] + runs, before[1] + size)
    return usage
