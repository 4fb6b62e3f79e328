"""`RunRecorder`: writes the runs of this process to a run store."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import BackendUnavailable
from nexus_core.runs.keeper import RunKeeper
from nexus_core.runs.record import PrincipalRecord, RunChange, RunEvent, RunRecord
from nexus_core.runs.status import STATUS_AFTER, RunStatus, new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.events.event import ChannelEvent, EventBus
    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.question import RunQuestion
    from nexus_core.runs.record import RunStep
    from nexus_core.runs.retention import Pruned, RunRetention
    from nexus_core.runs.run import Run
    from nexus_core.runs.store import RunStore
    from nexus_core.types.principal import Principal


COUNTED = 1_000_000
"""How many runs a pruning that only counts looks at."""


class RunRecorder:
    """Stores what happens to the runs of this process, and cancels each that another process asks to cancel.

    Runs in the background and runs with an idempotency key are stored before they begin: a caller that gets the id of
    one finds it at every process. Other runs are stored a moment later.

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
        self._events = events
        self._only_acknowledged = only_acknowledged
        self._retention = retention
        self._keeper = RunKeeper(store, retention)
        self._open: dict[str, int] = {}
        self._left_out: dict[str, Callable[[], RunChange]] = {}
        self._stops: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Open the store, and begin.

        Raises:
            ConfigurationError: The store can't be used as it is.
        """
        await self.store.open(new_run_id())
        self._stops = [self._events.listen(self._heard), self.store.on_cancel(self._cancel)]
        self._keeper.begin()

    async def close(self) -> None:
        """Write what waits, and close the store."""
        await self._keeper.stop()
        for stop in self._stops:
            stop()
        self._stops = []
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
        """
        if run.id in self._open:
            self.store.write_later(RunChange(run.id, self._open[run.id], status=status, started_at=time.time()))
            return
        begin = partial(self._begin, run, workflow, params, principal, session_id, deadline, trace, status)
        if not (run.keeps_result or run.has_key):
            if self._only_acknowledged:
                self._left_out[run.id] = begin
            else:
                self.store.write_later(begin())
            return
        try:
            await self.store.write([begin()])
        except BaseException:
            # It may have been stored all the same: then this ends it, for whoever looks.
            self.store.write_later(RunChange(run.id, status=RunStatus.CANCELLED, finished_at=run.started_at))
            del self._open[run.id]
            raise

    def _begin(
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
        """Return the change that stores a run, whose events are stored from now on."""
        record = RunRecord(
            run.id, run.workflow, run.channel, run.started_at, jsontext.encode(self.store.redacted(workflow, params)),
            None if principal is None else principal.identity,
            None if principal is None else PrincipalRecord.of(principal), session_id, deadline, trace=trace or {},
            has_key=run.has_key, executor=self.store.executor,
        )  # fmt: skip
        self._open[run.id] = record.attempt
        return RunChange.begin(record, status, run.started_at if status is RunStatus.RUNNING else None)

    async def has_stored(self, run: Run) -> bool:
        """Make sure that a run is stored whose caller will not wait for it any longer. Returns whether it is."""
        begin = self._left_out.pop(run.id, None)
        if begin is not None:
            self.store.write_later(begin())
        try:  # a later write than that of its beginning
            await self.store.write([RunChange(run.id, self._open.get(run.id, 1))])
        except BackendUnavailable:
            return False
        return True

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
        if (begin := self._left_out.get(run.id)) is not None:
            changes.append(begin())  # who may answer finds it in the store
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
        attempt = self._open.get(event.run_id)
        if attempt is None or not event.number:
            if self._left_out and event.is_terminal:
                self._left_out.pop(event.run_id, None)
            return
        told = (RunEvent.of(event.without_result()),)
        status = STATUS_AFTER.get(event.type)
        if status is None:
            self.store.write_later(RunChange(event.run_id, attempt, events=told))
            return
        del self._open[event.run_id]
        result = None if event.result is None else event.result.json
        problem = None if event.error is None else event.error.problem()
        run = self._history.of_this_process(event.run_id)
        cut_off = () if run is None or run.steps is None else run.steps.cut_off
        change = RunChange(
            event.run_id, attempt, status=status, finished_at=event.time, result=result, problem=problem, events=told,
            steps=cut_off,
        )  # fmt: skip
        self.store.write_later(change)

    def step(self, run_id: str, step: RunStep) -> None:
        """Store a step that has begun or has ended."""
        attempt = self._open.get(run_id)
        if attempt is not None:
            self.store.write_later(RunChange(run_id, attempt, steps=(step,)))

    def _cancel(self, run_id: str) -> None:
        run = self._history.of_this_process(run_id)
        if run is not None:
            run.cancel()
