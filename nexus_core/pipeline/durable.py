"""`DurableRuns`: calls whose work a `RunEngine` does, in this process or in another one."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core.errors import (
    BackendUnavailable,
    Conflict,
    NexusError,
    Overloaded,
    RunCancelled,
    RunInterrupted,
    WorkflowTimeout,
)
from nexus_core.events.event import WORKFLOW_UNSERVED, ChannelEvent
from nexus_core.pipeline.durable_retention import PrunedRuns
from nexus_core.pipeline.durable_worker import insisting, waited_for_answers
from nexus_core.pipeline.queued_work import work_of
from nexus_core.runs.record import RunFilter
from nexus_core.runs.status import RunStatus
from nexus_core.runs.store import end_of
from nexus_core.runs.stored_run import StoredRun
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nexus_core.pipeline.execution import Execution
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.runs.engine import RunEngine
    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.record import RunState
    from nexus_core.runs.recorder import RunRecorder
    from nexus_core.runs.run import Run
    from nexus_core.runs.work import Worker, WorkPosition
    from nexus_core.workflows.workflow import Workflow

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""Pause after the run store was unavailable."""

SWEEP_SECONDS = 10.0
"""Seconds between two looks at the durable runs that have not ended."""

ORPHAN_SECONDS = 30.0
"""Seconds after which an accepted run that the engine does not know was left by a process that died meanwhile."""

LATE_SECONDS = 5.0
"""Seconds that a process which works on a run gets to end it at its deadline itself."""

PAGE = 1000
PAGES = 20
"""How many runs are looked at in one sweep: the newest ones."""


class DurableRuns:
    """Hands durable calls to the engine, waits for their runs, and ends what no process can end.

    Args:
        engine: Does the work again where a process has died.
        worker: How this process works on runs; None where it only takes calls.
        execution: Knows time limits.
        recorder: Stores runs.
        history: The runs of this process.
        is_durable: Whether a workflow's runs are durable.
    """

    def __init__(
        self, engine: RunEngine, worker: Worker | None, execution: Execution, recorder: RunRecorder,
        history: RunHistory, is_durable: Callable[[Workflow], bool],
    ) -> None:  # fmt: skip
        self.engine = engine
        self.takes = is_durable
        self.worker = worker
        self._execution = execution
        self._recorder = recorder
        self._store = recorder.store
        self._history = history
        self._pruned = PrunedRuns(engine, recorder.store)
        self._is_leaving = False
        self._unserved: dict[str, int] = {}
        self._waited_for: set[Run] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the engine, once the run store is open.

        Raises:
            ConfigurationError: The engine can't be used as it is.
        """
        await self.engine.open(self._store.executor, self.worker)
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_always(), name="nexus-run-sweeper")

    async def close(self) -> None:
        """Leave the runs at work to other processes, and close the engine."""
        self._is_leaving = True
        for run in self._waited_for:
            run.leave()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self.engine.close()

    async def __call__(self, invocation: Invocation, workflow: Workflow) -> Result:
        """Accept a call, and return its result once some process has done the work.

        Raises:
            NexusError: The run failed.
            Overloaded: This process stops; the run goes on.
            BackendUnavailable: The run store or the engine can't take it.
        """
        run = invocation.run
        begin = time.monotonic()
        await self._accept(invocation, workflow, run)
        with run.hold():
            await self._ended(run)
            if run.error is not None:
                raise run.error.copy()
            result = run.result
        if result is None:
            raise Overloaded("This process stops. The run goes on at another one.", run_id=run.id, retry_after=1.0)
        return Result(result.json, run.id, time.monotonic() - begin)

    async def _accept(self, invocation: Invocation, workflow: Workflow, run: Run) -> None:
        """Store a run and start its work. Only then does its caller hear that it was accepted."""
        limit = self._execution.limit(invocation, workflow)
        session_id = invocation.session.id if invocation.session else None
        self._history.accept(run, invocation.principal, session_id, invocation.payer)
        try:
            queued = await self._recorder.accept(
                run, workflow, invocation.validated_params, invocation.principal, session_id,
                None if limit is None else time.time() + limit, invocation.trace,
            )  # fmt: skip
        except Conflict:
            self._history.withdraw(run)  # the run of this id is another
            raise
        try:
            await self.engine.start(work_of(invocation, workflow), invocation.beginning)
        except NexusError as exc:
            self._recorder.refused(run, exc)
            raise
        if run.last_number == 0:  # else this process works on it already
            run.relay(queued)
            self._recorder.events.publish(queued)

    async def _ended(self, run: Run) -> None:
        """Wait until a run has ended or this process stops, and cancel the work when the call is cancelled."""
        mirror = asyncio.get_running_loop().create_task(self._mirror(run), name="nexus-run-mirror")
        self._waited_for.add(run)
        try:
            while not run.ended and not self._is_leaving:
                await run.changed()
        except asyncio.CancelledError:
            if not self._is_leaving:
                await self.cancel(run.id)
                if run.is_left:
                    await insisting(self._catch_up, run)
            raise
        finally:
            self._waited_for.discard(run)
            mirror.cancel()
        if not run.ended:
            run.leave()

    async def cancel(self, run_id: str) -> None:
        """Cancel a run, whichever process works on it."""
        await insisting(self._store.request_cancel, run_id)
        await insisting(self._end_blocked, run_id)
        await insisting(self.engine.cancel, run_id)

    async def _end_blocked(self, run_id: str) -> None:
        """End a run that was cancelled and that no process works on, since none has the code for it."""
        state = await self._store.get(run_id, payloads=False)
        if state is not None and state.status is RunStatus.BLOCKED:
            await self._store.end(end_of(state, RunCancelled("The run was cancelled.", run_id=run_id), time.time()))

    async def _catch_up(self, run: Run) -> None:
        """Show what has happened to a run elsewhere until now."""
        state = await self._store.get(run.id, payloads=False)
        if state is not None:
            for event in await StoredRun(state, self._store).past(run.last_number):
                run.relay(event)

    async def place(self, run_id: str) -> WorkPosition | None:
        """Return where the work of a run waits; None if it does not, or if that can't be known now."""
        try:
            return await self.engine.position(run_id)
        except BackendUnavailable:
            return None

    async def _mirror(self, run: Run) -> None:
        """Show what happens to a run in other processes."""
        while not run.ended:
            try:
                state = await self._store.get(run.id, payloads=False)
                if state is None:
                    return
                async for event in StoredRun(state, self._store).follow(run.last_number):
                    run.relay(event)
            except NexusError as exc:
                log.debug("Run %s can't be followed", run.id, exc_info=exc)
                await asyncio.sleep(RETRY_SECONDS)

    # ---- what no process works on

    async def _sweep_always(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep(time.time())
            except BackendUnavailable:
                continue  # the store and the engine log their outages
            except Exception:
                log.exception("Durable runs can't be checked")

    async def sweep(self, now: float) -> None:
        """End the runs whose deadline has passed without a process that noticed, and the runs that were never started.

        The engine of a process that works forgets runs that the store no longer has.

        Args:
            now: Seconds since the epoch.
        """
        for status in (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.BLOCKED):
            async for page in self._pages(status):
                await self._end_late(page, now)
                for state in page if status is RunStatus.BLOCKED else ():
                    if state.cancel_requested_at is not None:  # just before it was blocked
                        await self.cancel(state.record.id)
                await self._end_orphans(page, now)
        await self._pruned.look(now)
        await self._tell_unserved()

    async def _tell_unserved(self) -> None:
        """Tell operators, once, of waiting runs that no process can work on."""
        before, self._unserved = self._unserved, dict(await self.engine.unserved())
        for workflow, runs in self._unserved.items():
            if workflow not in before:
                log.warning("No process can work on %d waiting runs of %s: start a worker that has it", runs, workflow)
                self._recorder.events.publish(ChannelEvent(WORKFLOW_UNSERVED, workflow, data={"runs": runs}))
        for workflow in before.keys() - self._unserved.keys():
            log.info("The runs of %s are worked on again", workflow)

    async def _pages(self, status: RunStatus) -> AsyncIterator[list[RunState]]:
        before = None
        for _ in range(PAGES):
            page = await self._store.find(RunFilter(status=status, before=before, limit=PAGE))
            if durable := [state for state in page if state.record.durable]:
                yield durable
            if len(page) < PAGE:
                return
            before = page[-1].cursor

    async def _end_late(self, page: list[RunState], now: float) -> None:
        for state in page:
            deadline = state.record.deadline
            if deadline is None or deadline + LATE_SECONDS > now:
                continue
            waited = await waited_for_answers(self._store, state.record.id)
            if deadline + waited + LATE_SECONDS <= now:
                await self._end(state, WorkflowTimeout("The workflow did not finish before its deadline."), now)

    async def _end_orphans(self, page: list[RunState], now: float) -> None:
        old = [state for state in page if state.record.accepted_at + ORPHAN_SECONDS < now]
        known = await self.engine.known([state.record.id for state in old]) if old else set[str]()
        for state in old:
            if state.record.id not in known:
                reason = "The process that took the call ended before the run was started."
                if state.started_at is not None:  # after a restore of the run store alone, or of a later moment
                    reason = "The run engine does not know this run, and can't go on with it."
                await self._end(state, RunInterrupted(reason), now)

    async def _end(self, state: RunState, error: NexusError, now: float) -> None:
        error.run_id = state.record.id
        if await self._store.end(end_of(state, error, now)):
            log.warning("Run %s of %s is ended: %s", state.record.id, state.record.workflow, error.message)
        await self.engine.cancel(state.record.id)
