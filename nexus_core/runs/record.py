"""What a `RunStore` holds: runs, their events and their steps, as values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from nexus_core import jsontext
from nexus_core.errors import MalformedRequest
from nexus_core.runs.status import ENDED, RunStatus
from nexus_core.runs.stored_text import stored_text
from nexus_core.types.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nexus_core.events.event import ChannelEvent
    from nexus_core.runs.question import RunQuestion

TEXT_CHARACTERS = 8
"""Fewest characters that `RunFilter.text` takes: the ids of all runs of a minute begin with the same ones."""

STEP_BYTES = 150
"""Bytes of a stored step without its name and its error, about."""

NEXT = 0
"""The number of an event that the store numbers itself: one more than the run's latest."""


@dataclass(frozen=True, slots=True)
class PrincipalRecord:
    """A `Principal` as it is stored: without its claims, which may hold anything."""

    user_id: str
    permissions: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    tenant_id: str | None = None

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """Return what is stored of a principal."""
        permissions, scopes = sorted(principal.permissions), sorted(principal.scopes)
        return cls(principal.user_id, tuple(permissions), tuple(scopes), principal.tenant_id)

    def principal(self) -> Principal:
        """Return the principal, for work that is done elsewhere or later."""
        return Principal(self.user_id, frozenset(self.permissions), frozenset(self.scopes), self.tenant_id)


@dataclass(slots=True)  # frozen, it would take four times as long to make: each call makes one
class RunRecord:
    """What a run is from its beginning. It holds no credentials, no headers and no query. It is not changed.

    Attributes:
        id: The run's id. Random (`new_run_id`), or derived from owner, workflow and idempotency key.
        workflow: Name of the workflow.
        channel: The channel that it came through.
        accepted_at: When the call was accepted, in seconds since the epoch. Runs are listed by it, newest first.
        params: The validated parameters as JSON text. None where they were not read, see `RunState.params_size`.
        owner: The `Principal.identity` it belongs to, or None where authentication is off.
        principal: The caller, or None where authentication is off.
        session_id: The session it belongs to, if any.
        deadline: When it times out, in seconds since the epoch, or None.
        version: Version of the workflow's code when the call was accepted (`Workflow.code_version`), or None.
        schema_hash: Digest of the input schema that the parameters fit.
        trace: Trace headers, such as ``traceparent``.
        has_key: Whether its caller gave an idempotency key.
        attempt: Which attempt at the work this is, from 1. Writes of an earlier attempt are refused.
        parent: The run that it repeats, from its beginning or from a step, or None.
        executor: Id of the process that does the work (`RunStore.open`). None while no process has taken it: no lease
            guards it then.
        durable: Whether a `RunEngine` does the work: again where its process has died.
        redacted: Whether secrets were taken out of ``params``.
    """

    id: str
    workflow: str
    channel: str
    accepted_at: float
    params: bytes | None = b"{}"
    owner: str | None = None
    principal: PrincipalRecord | None = None
    session_id: str | None = None
    deadline: float | None = None
    version: str | None = None
    schema_hash: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)
    has_key: bool = False
    attempt: int = 1
    parent: str | None = None
    executor: str | None = None
    durable: bool = False
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event of a run as it is stored.

    Attributes:
        number: Its place among the events of its run, from 1; `NEXT` where the store shall number it.
        body: The event as channels send it, as the JSON text of an object without ``number``.
    """

    number: int
    body: bytes

    @classmethod
    def of(cls, event: ChannelEvent) -> Self:
        """Return what is stored of an event."""
        members = event.to_dict()
        return cls(members.pop("number", NEXT), stored_text(members))

    def to_dict(self) -> dict[str, Any]:
        """Return the event as channels send it: the same as `ChannelEvent.to_dict` of the event it was made of."""
        members: dict[str, Any] = jsontext.parse_trusted(self.body)
        return {"number": self.number} | members


@dataclass(frozen=True, slots=True)
class RunStep:
    """A step of a run. Writing one with a number that is there replaces it.

    Attributes:
        number: Its place among the steps of its run, from 1.
        name: The name the workflow gave it.
        attempt: Which attempt at this step it is, from 1.
        began_at: When the attempt began, in seconds since the epoch.
        ended_at: When it ended, or None while it goes on.
        outcome: ``completed``, ``failed`` or ``cancelled``; None while it goes on. Where its process was killed, it is
            read as ``interrupted``, without an end.
        size: Bytes of its result as JSON text; 0 before its end, and where it was not measured.
        error: Message of the error that it failed with, or None.
    """

    number: int
    name: str
    attempt: int
    began_at: float
    ended_at: float | None = None
    outcome: str | None = None
    size: int = 0
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the step as channels show it."""
        members: dict[str, Any] = {
            "number": self.number, "name": self.name, "attempt": self.attempt, "began_at": self.began_at,
        }  # fmt: skip
        if self.ended_at is not None:
            members |= {"ended_at": self.ended_at, "duration": round(self.ended_at - self.began_at, 6)}
            members["size"] = self.size
        if self.outcome is not None:
            members["outcome"] = self.outcome
        return members if self.error is None else members | {"error": self.error}

    @property
    def weight(self) -> int:
        """About how many bytes it takes to store it."""
        return STEP_BYTES + len(self.name) + len(self.error or "")


@dataclass(slots=True)  # frozen, it would take four times as long to make: each call makes one
class RunChange:
    """Something to write: everything in it happens to one run, at once or not at all. Once written, it is not changed.

    A change applies where the run exists, has not ended and is in this attempt; a ``record`` where no run has its id.
    Repeating a change has no further effect, and counts as applied: a beginning by the same executor at the same time,
    the same end at the same time, events with numbers that the run has. So a writer may repeat, after an outage, what
    may or may not have arrived.

    Attributes:
        run_id: The run.
        attempt: The attempt that the writer works on.
        record: The run, where it begins.
        status: Its status from now on, or None. `COMPLETED`, `FAILED` and `CANCELLED` end it.
        started_at: When the work began, in seconds since the epoch, or None.
        finished_at: When the run ended; given with a status that ends it, and with no other.
        result: The result as JSON text, or None.
        problem: The error as `NexusError.problem` returns it, or None.
        events: What is appended to its events, in order.
        steps: Steps that are added or replaced.
        questions: Questions that are asked. Those with numbers not above the run's latest are left out.
        last_event: Number of the run's latest event where it is not among ``events``: that a run has started, and how
            it has ended, is in the other members, and readers get those events made of them (`with_implied`).
        duration: Seconds that the work took, as such a last event has it, or None.
    """

    run_id: str
    attempt: int = 1
    record: RunRecord | None = None
    status: RunStatus | None = None
    started_at: float | None = None
    finished_at: float | None = None
    result: bytes | None = None
    problem: Mapping[str, Any] | None = None
    events: tuple[RunEvent, ...] = ()
    steps: tuple[RunStep, ...] = ()
    questions: tuple[RunQuestion, ...] = ()
    last_event: int = 0
    duration: float | None = None

    @classmethod
    def begin(cls, record: RunRecord, status: RunStatus = RunStatus.PENDING, started_at: float | None = None) -> Self:
        """Return the change that stores a new run."""
        return cls(record.id, record.attempt, record, status, started_at)

    @property
    def ends(self) -> bool:
        """Whether it ends the run."""
        return self.finished_at is not None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of a run, which begins and ends, and has no events but these two and no steps."""
        return self.record is not None and self.ends and not (self.events or self.steps or self.questions)

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        size = 0
        if self.record is not None and self.record.params is not None:
            size = len(self.record.params)
        if self.result is not None:
            size += len(self.result)
        if self.events:
            size += sum(len(event.body) for event in self.events)
        if self.steps:
            size += sum(step.weight for step in self.steps)
        return size

    def then(self, later: RunChange) -> RunChange:
        """Return one change that does what this one and a later one of the same attempt do."""
        return self.merged((self, later))

    @classmethod
    def merged(cls, changes: Sequence[RunChange]) -> RunChange:
        """Return one change that does what several of one run and one attempt do, in order."""
        first, last = changes[0], changes[-1]
        backwards = changes[::-1]
        return cls(
            first.run_id, first.attempt, first.record,
            next((each.status for each in backwards if each.status is not None), None),
            next((each.started_at for each in backwards if each.started_at is not None), None),
            last.finished_at, last.result, last.problem,
            tuple(event for each in changes for event in each.events),
            tuple(step for each in changes for step in each.steps),
            tuple(question for each in changes for question in each.questions),
            max(each.last_event for each in changes), last.duration,
        )  # fmt: skip


class Written(NamedTuple):
    """What became of a `RunChange`.

    Attributes:
        is_applied: Whether it was applied. If not: the run had ended, is in another attempt, or does not exist; for a
            record, a run of this id exists.
        last_event: Number of the run's latest event; 0 without one.
    """

    is_applied: bool
    last_event: int


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as it is stored.

    Attributes:
        record: What it is from its beginning. Its ``attempt`` and ``executor`` are the present ones.
        status: Where it stands.
        started_at: When the work began, or None.
        finished_at: When it ended, or None.
        result: The result as JSON text; None without a result, or if it was not read (`RunStore.get`).
        problem: The error that it ended with, or None.
        params_size, result_size: Bytes of the parameters and of the result, whether they were read or not.
        last_event: Number of its latest event; 0 without one.
        cancel_requested_at: When a cancellation was requested, or None.
        duration: See `RunChange`.
    """

    record: RunRecord
    status: RunStatus = RunStatus.PENDING
    started_at: float | None = None
    finished_at: float | None = None
    result: bytes | None = None
    problem: Mapping[str, Any] | None = None
    params_size: int = 0
    result_size: int = 0
    last_event: int = 0
    cancel_requested_at: float | None = None
    duration: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended: nothing of it changes any more."""
        return self.status in ENDED

    @property
    def cursor(self) -> RunCursor:
        """Its place in listings; for `RunFilter.before`."""
        return RunCursor(self.record.accepted_at, self.record.id)


class RunCursor(NamedTuple):
    """A place in a listing: newer runs come before it, older ones after it. It holds though runs come and go."""

    accepted_at: float
    run_id: str

    def __str__(self) -> str:
        """Return it as callers send it back."""
        return f"{self.accepted_at!r}-{self.run_id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place that a caller names.

        Raises:
            MalformedRequest: The text is not a cursor.
        """
        time, _, run_id = text.partition("-")
        try:
            cursor = cls(float(time), run_id)
        except ValueError:
            cursor = cls(0.0, "")
        if not 0 < cursor.accepted_at < 1e11 or not run_id:
            raise MalformedRequest("before is not a cursor: pass the next of an earlier page.")
        return cursor


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a listing shows, newest first by ``accepted_at``. None in a member means any.

    Attributes:
        owner: Only the runs of this `Principal.identity`. None for operators, and where authentication is off.
        workflow: Only runs of this workflow.
        status: Only runs with this status.
        channel: Only runs that came through this channel.
        since: Only runs accepted at this time or later, in seconds since the epoch.
        until: Only runs accepted before this time.
        text: Only runs whose id begins or ends with this; at least `TEXT_CHARACTERS` characters.
        before: Only runs after this place in the listing: the `RunState.cursor` of the last run of the page before.
        limit: How many runs at most.
    """

    owner: str | None = None
    workflow: str | None = None
    status: RunStatus | None = None
    channel: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    before: RunCursor | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        """Refuse a text that is too short to be looked up."""
        if self.text is not None and len(self.text) < TEXT_CHARACTERS:
            raise MalformedRequest(f"text must have at least {TEXT_CHARACTERS} characters of a run's id.")

    def matches(self, state: RunState) -> bool:
        """Whether it shows a stored run, leaving ``limit`` aside."""
        record = state.record
        return self.shows(state.cursor, record.workflow, record.channel, record.owner, state.status)

    def shows(self, cursor: RunCursor, workflow: str, channel: str, owner: str | None, status: RunStatus) -> bool:
        """Whether it shows a run with these members, leaving ``limit`` aside."""
        accepted_at, run_id = cursor
        return (
            (self.owner is None or owner == self.owner)
            and (self.workflow is None or workflow == self.workflow)
            and (self.status is None or status is self.status)
            and (self.channel is None or channel == self.channel)
            and (self.since is None or accepted_at >= self.since)
            and (self.until is None or accepted_at < self.until)
            and (self.text is None or run_id.startswith(self.text) or run_id.endswith(self.text))
            and (self.before is None or cursor < self.before)
        )
