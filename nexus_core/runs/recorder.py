"""`RunRecorder`: writes the runs of this process to a run store."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import BackendUnavailable, Conflict
from nexus_core.events.event import WORKFLOW_BLOCKED, WORKFLOW_QUEUED, WORKFLOW_STARTED, ChannelEvent
from nexus_core.runs.keeper import RunKeeper
from nexus_core.runs.record import NEXT, PrincipalRecord, RunChange, RunEvent, RunRecord
from nexus_core.runs.status import STATUS_AFTER, RunStatus, new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.errors import NexusError
    from nexus_core.events.event import EventBus
    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.question import RunQuestion
    from nexus_core.runs.record import RunStep
    from nexus_core.runs.retention import Pruned, RunRetention
    from nexus_core.runs.run import Run
    from nexus_core.runs.store import RunStore
    from nexus_core.types.principal import Principal


RUNNING = RunStatus.RUNNING

COUNTED = 1_000_000
"""How many runs a pruning that only counts looks at."""

HELD_SECONDS = 0.008
"""Beginnings that may be stored late are looked through so often. One that was there the time before is stored."""


class RunRecorder:
    """Stores what happens to the runs of this process, and cancels each that another process asks to cancel.

    Runs in the background and runs with an idempotency key are stored before they begin: a caller that gets the id of
    one finds it at every process. Other runs are stored a moment later: most of them have ended by then, and are stored
    as a whole.

    Args:
        store: The store.
        history: The runs of this process.
        events: What they publish.
        retention: What is kept of runs that have ended.
        only_acknowledged: Whether runs are left out whose caller gets the result at once.
    """

    def __init__(
        self,
        store: RunStore,
        history: RunHistory,
        events: EventBus,
        retention: RunRetention,
        *,
        only_acknowledged: bool = False,
    ) -> None:
        self.store = store
        self._history = history
        self.events = events
        self._only_acknowledged = only_acknowledged
        self._retention = retention
        self._keeper = RunKeeper(store, retention)
        self._open: dict[str, int] = {}
        self._left_out: dict[str, Callable[[], RunChange]] = {}
        self._held: dict[str, RunChange] = {}
        self._held_before: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._stops: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Open the store, and begin.

        Raises:
            ConfigurationError: The store can't be used as it is.
        """
        await self.store.open(new_run_id())
        self._stops = [self.events.listen(self._heard), self.store.on_cancel(self._cancel)]
        self._keeper.begin()

    async def close(self) -> None:
        """Write what waits, and close the store."""
        await self._keeper.stop()
        for stop in self._stops:
            stop()
        self._stops = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for run_id in [*self._held]:
            self._store_beginning(run_id)
        await self.store.close()

    async def begin(
        self,
        run: Run,
        workflow: Any,
        params: Mapping[str, Any],
        principal: Principal | None,
        session_id: str | None,
        deadline: float | None,
        trace: Mapping[str, str] | None,
        status: RunStatus = RunStatus.RUNNING,
    ) -> None:
        """Store a run that is about to begin. One that was stored while it waited for its turn is noted to begin now.

        Args:
            run: The run.
            workflow: The workflow.
            params: Its validated parameters. They are stored without secrets, see `RunStore.redacted`.
            principal: The caller.
            session_id: The id of the call's session.
            deadline: When it times out, in seconds since the epoch.
            trace: The caller's trace headers.
            status: `RunStatus.BLOCKED` where it has to wait for its turn first.

        Raises:
            BackendUnavailable: The store can't take a run that has to be stored first.
            Conflict: The store has another run with this id.
        """
        if run.id in self._open:
            self.store.write_later(RunChange(run.id, self._open[run.id], status=status, started_at=time.time()))
            return
        is_late = not (run.keeps_result or run.has_key)
        if is_late and self._only_acknowledged:
            given = (run, workflow, params, principal, session_id, deadline, trace, status)
            self._left_out[run.id] = partial(self._beginning, *given)
            return
        change = self._beginning(run, workflow, params, principal, session_id, deadline, trace, status)
        if is_late and status is RUNNING:
            self._held[run.id] = change
            if self._timer is None:
                self._look_again_later()
            return
        self._open[run.id] = change.attempt
        if is_late:
            self.store.write_later(change)
            return
        try:
            (written,) = await self.store.write([change])
        except BaseException:
            # It may have been stored all the same: then this ends it, for whoever looks.
            self.store.write_later(RunChange(run.id, status=RunStatus.CANCELLED, finished_at=run.started_at))
            del self._open[run.id]
            raise
        if not written.is_applied and not await self._has_begun(change):
            del self._open[run.id]
            raise _known(run.id)

    def _beginning(
        self,
        run: Run,
        workflow: Any,
        params: Mapping[str, Any],
        principal: Principal | None,
        session_id: str | None,
        deadline: float | None,
        trace: Mapping[str, str] | None,
        status: RunStatus,
    ) -> RunChange:
        """Return the change that stores a run."""
        store, basis = self.store, run.basis
        stored = store.redacted(workflow, params)
        record = RunRecord(
            run.id, run.workflow, run.channel, run.started_at, jsontext.encode(stored),
            None if principal is None else principal.identity,
            None if principal is None else PrincipalRecord.of(principal), session_id, deadline,
            basis.get("version"), basis.get("schema_hash", ""), trace or {}, run.has_key, parent=basis.get("parent"),
            executor=store.executor, redacted=stored is not params and stored != params,
        )  # fmt: skip
        return RunChange(run.id, 1, record, status, run.started_at if status is RUNNING else None)

    def _look_again_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HELD_SECONDS, self._look)

    def _look(self) -> None:
        """Store the beginnings that were there the time before: their runs take longer."""
        for run_id in self._held_before:
            if run_id in self._held:
                self._store_beginning(run_id)
        self._timer, self._held_before = None, [*self._held]
        if self._held:
            self._look_again_later()

    def _store_beginning(self, run_id: str) -> None:
        change = self._held.pop(run_id)
        self._open[run_id] = change.attempt
        self.store.write_later(change)

    async def accept(
        self, run: Run, workflow: Any, params: Mapping[str, Any], principal: Principal | None, session_id: str | None,
        deadline: float | None, trace: Mapping[str, str] | None,
    ) -> ChannelEvent:  # fmt: skip
        """Store a durable run, which no process works on yet; see `begin` for the arguments.

        Returns:
            Its first event, which is stored, and is not published yet.

        Raises:
            BackendUnavailable: The store can't take it.
            Conflict: The store has another run with this id.
        """
        change = self._beginning(run, workflow, params, principal, session_id, deadline, trace, RunStatus.PENDING)
        record = change.record
        assert record is not None
        change.record = replace(record, executor=None, durable=True)
        event = _queued(run)
        change.events = (RunEvent.of(event),)
        (written,) = await self.store.write([change])
        if not written.is_applied and not await self._has_begun(change):
            raise _known(run.id)
        return event

    async def _has_begun(self, change: RunChange) -> bool:
        """Whether the run that the store has under a beginning's id is that one, which an attempt before has stored."""
        state, own = await self.store.get(change.run_id, payloads=False), change.record
        assert own is not None
        return state is None or (state.record.executor, state.record.accepted_at) == (own.executor, own.accepted_at)

    def refused(self, run: Run, error: NexusError) -> None:
        """Store that a durable run was not accepted after all."""
        change = RunChange(run.id, status=RunStatus.FAILED, finished_at=time.time(), problem=error.problem())
        self.store.write_later(change)

    def taken(self, run: Run, attempt: int) -> None:
        """Note that this process works on a durable run: what happens to it is stored from now on."""
        self._open[run.id] = attempt

    def released(self, run: Run) -> None:
        """Note that this process works on a durable run no longer, though it has not ended."""
        attempt = self._open.pop(run.id, None)
        if attempt is not None:
            event = replace(_queued(run), number=NEXT)
            self.store.write_later(RunChange(run.id, attempt, status=RunStatus.PENDING, events=(RunEvent.of(event),)))

    async def flush(self, run: Run) -> None:
        """Wait until everything that has happened to a run is stored.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        await self.store.write([RunChange(run.id, self._open.get(run.id, 1))])

    async def has_stored(self, run: Run) -> bool:
        """Make sure that a run is stored whose caller will not wait for it any longer. Returns whether it is."""
        if run.id in self._held:
            self._store_beginning(run.id)
        elif (beginning := self._left_out.pop(run.id, None)) is not None:
            self.store.write_later(self._begun_before(run, beginning()))
        try:  # a later write than that of its beginning
            await self.flush(run)
        except BackendUnavailable:
            return False
        return True

    def _begun_before(self, run: Run, change: RunChange) -> RunChange:
        """Return the change that stores a run some time after it has begun."""
        for event in run.events[:1]:
            _note_start(change, event)
        self._open[run.id] = change.attempt
        return change

    async def prune(self, *, dry_run: bool) -> Pruned:
        """Remove what is beyond the limits, in passes that leave others time; ``dry_run`` only counts it.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        if dry_run:
            return await self.store.prune(self._retention, limit=COUNTED, dry_run=True)
        return await self._keeper.prune()

    async def ask(self, run: Run, question: RunQuestion) -> bool:
        """Store a question of a run, which waits from now on. Returns False where the run has ended.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        changes = []
        if run.id in self._held:
            self._store_beginning(run.id)
        elif (beginning := self._left_out.get(run.id)) is not None:
            changes.append(self._begun_before(run, beginning()))  # who may answer finds it in the store
        attempt = self._open.get(run.id)
        if attempt is None:
            return False
        changes.append(RunChange(run.id, attempt, status=RunStatus.WAITING, questions=(question,)))
        written = await self.store.write(changes)
        self._left_out.pop(run.id, None)
        return written[-1].is_applied

    def resumed(self, run: Run) -> None:
        """Store that a run waits no longer."""
        attempt = self._open.get(run.id)
        if attempt is not None:
            self.store.write_later(RunChange(run.id, attempt, status=RunStatus.RUNNING))

    def _heard(self, event: ChannelEvent) -> None:
        """Store an event. Listeners are called inside `EventBus.publish`, in the order of the events."""
        run_id, is_start = event.run_id, event.type == WORKFLOW_STARTED and event.number == 1
        change = self._held.get(run_id)
        if change is not None:
            if is_start:
                _note_start(change, event)
                return
            if event.number == 2 and event.type in STATUS_AFTER:
                del self._held[run_id]
                _note_end(change, event)
                self.store.write_later(change)
                return
            self._store_beginning(run_id)
        attempt = self._open.get(run_id)
        if attempt is None or not event.number:
            if self._left_out and event.is_terminal:
                self._left_out.pop(run_id, None)
            return
        change = RunChange(run_id, attempt)
        if is_start:
            _note_start(change, event)
        elif event.type == WORKFLOW_BLOCKED:  # it is for others to go on with
            del self._open[run_id]
            change.status, change.events = RunStatus.BLOCKED, (RunEvent.of(event),)
        elif event.type in STATUS_AFTER:
            del self._open[run_id]
            _note_end(change, event)
            run = self._history.of_this_process(run_id)
            change.steps = () if run is None or run.steps is None else run.steps.cut_off
        else:
            change.events = (RunEvent.of(event),)
        self.store.write_later(change)

    def step(self, run_id: str, step: RunStep) -> None:
        """Store a step that has begun or has ended."""
        if run_id in self._held:
            self._store_beginning(run_id)
        attempt = self._open.get(run_id)
        if attempt is not None:
            self.store.write_later(RunChange(run_id, attempt, steps=(step,)))

    def _cancel(self, run_id: str) -> None:
        run = self._history.of_this_process(run_id)
        if run is not None:
            run.cancel()


def _known(run_id: str) -> Conflict:
    return Conflict("A run with this id was started before.", details={"run": run_id})


def _queued(run: Run) -> ChannelEvent:
    """Return the event that a run waits for a process."""
    return ChannelEvent(
        WORKFLOW_QUEUED, run.workflow, run.channel, run.id, run.session_id, run.user_id, owner=run.owner, number=1
    )


def _note_start(change: RunChange, event: ChannelEvent) -> None:
    """Add to a change that its run has started, if that is its first event."""
    if event.type == WORKFLOW_STARTED:
        change.started_at, change.last_event = event.time, event.number


def _note_end(change: RunChange, event: ChannelEvent) -> None:
    """Add to a change how its run has ended."""
    change.status, change.finished_at = STATUS_AFTER[event.type], event.time
    change.last_event, change.duration = event.number, event.duration
    if event.result is not None:
        change.result = event.result.json
    if event.error is not None:
        change.problem = event.error.problem()
