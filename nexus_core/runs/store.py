"""`RunStore`: where runs are kept, for every process that uses the same store."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import RunCancelled, RunInterrupted
from nexus_core.events.event import WORKFLOW_CANCELLED, WORKFLOW_FAILED
from nexus_core.runs.feed import RunFeeds
from nexus_core.runs.record import NEXT, RunChange, RunEvent, RunState
from nexus_core.runs.status import STATUS_AFTER, RunStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from nexus_core.errors import NexusError
    from nexus_core.runs.question import QuestionClosing, QuestionFilter, RunQuestion
    from nexus_core.runs.record import RunFilter, RunRecord, RunStep, Written
    from nexus_core.runs.retention import Pruned, RunRetention

LEASE_SECONDS = 6.0
"""Seconds after its last sign of life for which a process counts as alive, see `RunStore.renew`."""

REAPED = 100
"""Runs of processes that have died that are ended in one pass."""

PRUNED = 1000
"""Runs that are removed in one pass."""


class RunStore(ABC):
    """Runs, their events, steps and questions. A subclass implements the abstract methods; the others build on them.

    A writer calls `write` where the run must be stored before the caller gets an answer, and `write_later` where the
    store may follow a moment later. Both take a `RunChange`, which holds everything that happens to one run at once.

    Every async method raises `BackendUnavailable` when the store can't do it in time. What then becomes of a call is
    for the caller to decide; the store itself recovers as soon as it can. All methods belong to one event loop, the one
    on which `open` was called; `write_later` may be called from it alone, too.

    `nexus_core.testing.RunStoreContract` tests whether a class keeps all this.

    Attributes:
        name: What the option ``run_store`` calls it.
        is_shared: Whether other processes see the same runs.
        executor: Id of this process, while the store is open.
        redact: Takes secrets out of the parameters of a workflow's run before they are stored; None: nothing does.
        secret_names: Returns the names of a workflow's parameters that ``redact`` takes out whatever their values are.
    """

    name: str
    is_shared: bool

    def __init__(self) -> None:
        self.executor = ""
        self.redact: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] | None = None
        self.secret_names: Callable[[Any], frozenset[str]] | None = None
        self._feeds = RunFeeds(self)

    # ---- what a store implements

    @abstractmethod
    async def open(self, executor: str) -> None:
        """Open the store for this process, and `renew` its lease. A store that can't be reached opens later by itself.

        Args:
            executor: Id of this process: a new one at each start, never used before.

        Raises:
            ConfigurationError: The store can't be used as it is: a schema newer than this program, another's file.
        """

    @abstractmethod
    async def close(self) -> None:
        """Write what waits to be written, for at most a few seconds, give up the lease, and close the store."""

    @abstractmethod
    async def check(self) -> dict[str, Any]:
        """Return details for the health check of the store.

        Raises:
            BackendUnavailable: It does not work; the message is for operators.
        """

    @abstractmethod
    async def write(self, changes: Sequence[RunChange]) -> list[Written]:
        """Apply changes, in order, each on its own terms; they are stored when it returns.

        Stores write what several callers want at the same time in one transaction.

        Args:
            changes: The changes, of one run or of many.

        Returns:
            For each change, whether it was applied.
        """

    @abstractmethod
    def write_later(self, change: RunChange) -> None:
        """Apply a change within 50 ms, in the order of these calls and before a later `write`. It never raises.

        While the store is unavailable, changes wait, within a bound; beyond it, they are dropped and counted.
        """

    @abstractmethod
    async def get(self, run_id: str, *, payloads: bool = True) -> RunState | None:
        """Return a run, or None.

        Args:
            run_id: Its id.
            payloads: Whether its parameters and its result are read, however large. Else they are None.
        """

    @abstractmethod
    async def find(self, wanted: RunFilter) -> list[RunState]:
        """Return the runs that a filter shows, without parameters and results. Newest first by `RunState.cursor`."""

    @abstractmethod
    async def events(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunEvent]:
        """Return a run's events with numbers above ``after``, in order; none for a run that is not there."""

    @abstractmethod
    async def steps(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunStep]:
        """Return a run's steps with numbers above ``after``, in order; none for a run that is not there."""

    @abstractmethod
    async def take(self, run_id: str) -> RunState | None:
        """Take a durable run, for this process to work on it.

        It is `RunStatus.RUNNING` then. The first taking is its first attempt, each further one the next attempt: what
        the process writes that had it before is refused from then on. No lease guards it, see `RunEngine`.

        Returns:
            The run, with its parameters; None where it has ended or does not exist.
        """

    @abstractmethod
    async def question(self, run_id: str, number: int) -> RunQuestion | None:
        """Return a question of a run, or None."""

    @abstractmethod
    async def questions(self, wanted: QuestionFilter) -> list[RunQuestion]:
        """Return the questions that a filter shows, oldest first by `RunQuestion.cursor`."""

    @abstractmethod
    async def close_question(self, run_id: str, number: int, closing: QuestionClosing) -> bool:
        """Close a question, on the disk, if it is open and its time has not passed (`RunQuestion.takes`).

        Repeating a closing has no further effect, and counts as applied. A run that ends closes what it still asks.

        Returns:
            Whether it is closed so. False where another closing was first, it came late, or it does not exist.
        """

    @abstractmethod
    async def asked_permissions(self) -> list[str]:
        """Return the audiences of open questions that begin with `PERMISSION`, each once, sorted."""

    @abstractmethod
    async def request_cancel(self, run_id: str) -> bool:
        """Ask the process that runs it to cancel a run. Returns False where no such run goes on."""

    @abstractmethod
    def on_cancel(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call a function, on the event loop, with the id of each run of this executor that is to be cancelled.

        It may be called again for the same run. Returns the function that ends it.
        """

    @abstractmethod
    def watch(self, run_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a function, on the event loop, soon after a run has changed, whichever process has changed it.

        The closing of a question of the run is a change, too.

        It may be called without a change, and once for several; after an outage, it is called in any case. Returns the
        function that ends it.
        """

    @abstractmethod
    async def renew(self, lease: float = LEASE_SECONDS) -> None:
        """Note that this process is alive, and will be for so many seconds. It holds for all its runs."""

    @abstractmethod
    async def expired(self, limit: int = REAPED) -> list[RunState]:
        """Return runs that have not ended although the lease of their executor has, oldest first.

        Empty for a process that has not held its own lease without a gap for as long as a lease lasts: after
        an outage of the store, every process gets the time to renew its own.
        """

    @abstractmethod
    async def prune(self, keep: RunRetention, *, limit: int = PRUNED, dry_run: bool = False) -> Pruned:
        """Remove runs that have ended and are beyond the limits, the oldest first, with all that belongs to them.

        Args:
            keep: The limits.
            limit: How many runs at most; the rest is for the next pass.
            dry_run: Whether to count only what a pass would remove. ``limit`` bounds that too.
        """

    def renew_in_thread(self, lease: float = LEASE_SECONDS) -> None:  # noqa: B027  (not every store needs it)
        """Do what `renew` does while the event loop stands still: from a thread, always the same one.

        It may block for some seconds. A store without leases does nothing.

        Raises:
            BackendUnavailable: The store does not answer.
        """

    def end_thread(self) -> None:  # noqa: B027
        """Close what `renew_in_thread` has opened, in its thread: it is not called again."""

    def statistics(self) -> dict[str, int]:
        """Return numbers for metrics: ``waiting`` and ``dropped`` changes of `write_later`."""
        return {"waiting": 0, "dropped": 0}

    def redacted(self, workflow: Any, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return parameters as they may be stored. They are unchanged where `redact` is None."""
        return params if self.redact is None else self.redact(workflow, params)

    # ---- what builds on that

    async def begin_many(self, records: Sequence[RunRecord], status: RunStatus = RunStatus.PENDING) -> list[RunState]:
        """Store runs that begin. One whose id is known is not changed.

        Returns:
            For each, the run that there is now: a caller tells its own by ``executor`` and ``accepted_at``.
        """
        written = await self.write([RunChange.begin(record, status) for record in records])
        pairs = zip(records, written, strict=True)
        return [await self._begun(record, each.is_applied, status) for record, each in pairs]

    async def _begun(self, record: RunRecord, is_new: bool, status: RunStatus) -> RunState:
        state = None if is_new else await self.get(record.id)
        return state or RunState(record, status, params_size=len(record.params or b""))

    async def begin(self, record: RunRecord, status: RunStatus = RunStatus.PENDING) -> RunState:
        """Store one run that begins; see `begin_many`."""
        return (await self.begin_many([record], status))[0]

    async def set_status(self, run_id: str, attempt: int, status: RunStatus, started_at: float | None = None) -> bool:
        """Change the status of a run that goes on. Returns False where it has ended or is in another attempt."""
        (written,) = await self.write([RunChange(run_id, attempt, status=status, started_at=started_at)])
        return written.is_applied

    async def append(self, run_id: str, attempt: int, events: Sequence[RunEvent]) -> int:
        """Append events to a run that goes on. Returns the number of its latest event, whether that is one of these."""
        (written,) = await self.write([RunChange(run_id, attempt, events=tuple(events))])
        return written.last_event

    async def end(self, change: RunChange) -> bool:
        """End a run. Returns False where it has ended in another way, or is in another attempt."""
        assert change.ends
        (written,) = await self.write([change])
        return written.is_applied

    async def reap(self, limit: int = REAPED) -> list[RunState]:
        """End the runs of processes that have died, with the error ``run_interrupted``.

        Returns:
            The runs that this call has ended: each is returned by one call only, in whichever process.
        """
        expired = await self.expired(limit)
        written = await self.write([interrupted(state, time.time()) for state in expired]) if expired else []
        return [state for state, each in zip(expired, written, strict=True) if each.is_applied]

    async def changed(self, run_id: str, after: int, timeout: float | None = None) -> bool:
        """Wait until a run has an event with a number above ``after`` or has ended. Returns whether it has."""
        return await self._feeds.changed(run_id, after, timeout)

    def follow(
        self, run_id: str, after: int = 0, heartbeat: float | None = None
    ) -> AsyncGenerator[RunEvent | None, None]:
        """Yield a run's events with a number above ``after``: past ones, then new ones, up to the last.

        All followers of a run in a process share what is read for them: one query for each change.

        Args:
            run_id: The run. For one that is not there, nothing is yielded.
            after: The number of the last event that the follower has.
            heartbeat: Seconds without an event after which None is yielded.
        """
        return self._feeds.follow(run_id, after, heartbeat)


def interrupted(state: RunState, now: float) -> RunChange:
    """Return the change that ends a run whose process has died."""
    error = RunInterrupted(
        "The process that ran the workflow ended before the run did. A part of the work may have been done.",
        run_id=state.record.id,
    )
    return end_of(state, error, now)


def end_of(state: RunState, raised: NexusError, now: float) -> RunChange:
    """Return the change that ends a run with an error, for a process that does not work on it."""
    record, error = state.record, raised.problem()
    event_type = WORKFLOW_CANCELLED if isinstance(raised, RunCancelled) else WORKFLOW_FAILED
    members = {
        "type": event_type, "time": now, "run_id": record.id, "channel": record.channel,
        "session_id": record.session_id, "workflow": record.workflow, "error": error,
        "duration": round(now - (state.started_at or record.accepted_at), 6),
    }  # fmt: skip
    event = RunEvent(NEXT, jsontext.encode({name: value for name, value in members.items() if value}))
    return RunChange(
        record.id, record.attempt, status=STATUS_AFTER[event_type], finished_at=now, problem=error, events=(event,)
    )
