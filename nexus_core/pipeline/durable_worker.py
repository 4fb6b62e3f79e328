"""`DurableWorker`: works on durable runs, from where they were when another process left them or died."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from nexus_core.errors import BackendUnavailable, CodeChanged, NexusError, RunInterrupted
from nexus_core.events.event import WORKFLOW_BLOCKED, WORKFLOW_FAILED, WORKFLOW_STARTED
from nexus_core.pipeline.durable_task import params_of
from nexus_core.pipeline.invocation import Invocation
from nexus_core.runs.question import QUESTIONS_OF_RUN, QuestionFilter
from nexus_core.runs.status import RunStatus
from nexus_core.runs.step_log import StepLog
from nexus_core.runs.stored_run import StoredRun
from nexus_core.runs.work import WorkBlocked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nexus_core.pipeline.execution import Execution
    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.journal import Journal
    from nexus_core.runs.record import RunState
    from nexus_core.runs.recorder import RunRecorder
    from nexus_core.runs.run import Run
    from nexus_core.runs.store import RunStore
    from nexus_core.state.sessions import SessionStore
    from nexus_core.workflows.workflow import Workflow

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""Pause after the run store was unavailable."""

LEAVE_SECONDS = 2.0
"""How long work is waited for that this process leaves to others."""

PAGE = 1000
"""Events and steps that are read at once."""

DEATHS = 3
"""How many processes in a row may die over one run without a step forward: a further one does not try."""


class _EarlierAttempts(NamedTuple):
    """What earlier attempts at a run have done.

    Attributes:
        published: How many events of each type.
        deaths: How many processes in a row have died over it without a step forward.
    """

    published: Mapping[str, int]
    deaths: int


class DurableWorker:
    """Works on the runs that an engine gives it.

    Args:
        execution: Runs workflows.
        recorder: Stores runs.
        history: The runs of this process.
        find: Finds workflows.
        sessions: Where the sessions of runs are.
    """

    def __init__(
        self, execution: Execution, recorder: RunRecorder, history: RunHistory,
        find: Callable[[str], Workflow | None], sessions: SessionStore,
    ) -> None:  # fmt: skip
        self._execution = execution
        self._recorder = recorder
        self._store = recorder.store
        self._history = history
        self._find = find
        self._sessions = sessions

    async def perform(self, run_id: str, task: bytes, journal: Journal) -> None:
        """Do the work of a run; see `nexus_core.runs.work.Perform`."""
        state: RunState | None = await insisting(self._store.take, run_id)
        if state is None:
            return  # it was cancelled before its turn
        there = self._history.of_this_process(run_id)
        is_own = there is None or there.ended or there.is_left
        before = None if is_own or there is None else there.work
        if there is None or is_own:
            run = self._history.restore(state, self._recorder.events)
        else:
            run = there
            for event in await insisting(StoredRun(state, self._store).past, run.last_number):
                run.relay(event)
        self._recorder.taken(run, state.record.attempt)
        work = asyncio.get_running_loop().create_task(self._work(run, state, task, journal))
        try:
            await asyncio.shield(work)  # it hears of its end when the run is left: what it says then does not count
            await insisting(self._recorder.flush, run)
        except BaseException:
            run.leave()
            self._recorder.released(run)
            work.cancel()
            await asyncio.wait({work}, timeout=LEAVE_SECONDS)
            if before is not None and run.status is RunStatus.BLOCKED:
                run.attach(*before)  # to cancel it is to cancel its call
            raise
        finally:
            if is_own:
                self._history.end(run)
                run.close()

    async def _work(self, run: Run, state: RunState, task: bytes, journal: Journal) -> None:
        record = state.record
        past = await self._past(run) if record.attempt > 1 else _EarlierAttempts({}, 0)
        run.cancel_requested = run.cancel_requested or state.cancel_requested_at is not None
        try:
            if past.deaths >= DEATHS:
                raise RunInterrupted(f"{past.deaths} processes in a row have ended while they worked on this run.")
            invocation, workflow = await self._invocation(run, state, task)
        except CodeChanged as exc:
            await self._block(run, exc)
        except NexusError as exc:
            exc.run_id = run.id
            run.publish(WORKFLOW_FAILED, error=exc)
            return
        run.status = RunStatus.RUNNING
        run.publish(WORKFLOW_STARTED, {"attempt": record.attempt} if record.attempt > 1 else None)
        left = None
        if record.deadline is not None:
            waited = await insisting(waited_for_answers, self._store, run.id) if record.attempt > 1 else 0.0
            left = max(record.deadline + waited - time.time(), 0.0)
        try:
            await self._execution.work(invocation, workflow, journal, past.published, left)
        except CodeChanged as exc:
            await self._block(run, exc)

    async def _block(self, run: Run, error: CodeChanged) -> NoReturn:
        """Leave a run to processes that have the code for it.

        Raises:
            WorkBlocked: Always.
        """
        error.run_id = run.id
        log.warning("Run %s of %s is blocked: %s", run.id, run.workflow, error.message, extra={"run_id": run.id})
        run.status = RunStatus.BLOCKED
        run.publish(WORKFLOW_BLOCKED, error=error)
        run.leave()
        await insisting(self._recorder.flush, run)
        raise WorkBlocked(error.message) from None

    async def _invocation(self, run: Run, state: RunState, task: bytes) -> tuple[Invocation, Workflow]:
        """Return the call as it was accepted, and its workflow.

        Raises:
            CodeChanged: The workflow or the form of its parameters is another one by now.
            NexusError: Its session is another one by now, or its parameters never did fit.
        """
        record = state.record
        workflow = self._find(record.workflow)
        if workflow is None:
            raise CodeChanged(f'Code changed: a process that was to do the work has no workflow "{record.workflow}".')
        params = params_of(task)
        try:
            prepared = workflow.prepare(params)
        except Exception as exc:
            if record.schema_hash in ("", workflow.schema_hash):
                raise
            errors = exc.errors if isinstance(exc, NexusError) else ()
            raise CodeChanged("Code changed: the parameters of the run no longer fit.", errors=errors) from None
        session = None
        if record.session_id is not None:
            session = await insisting(self._sessions.get, record.session_id, record.owner)
        invocation = Invocation(
            record.workflow, prepared, record.channel, validated_params=params, session=session,
            principal=None if record.principal is None else record.principal.principal(), trace=dict(record.trace),
            workflow=workflow, run=run,
        )  # fmt: skip
        return invocation, workflow

    async def _past(self, run: Run) -> _EarlierAttempts:
        """Return what earlier attempts have done, and let the run's steps go on behind theirs."""
        counts: Counter[str] = Counter()
        starts: list[float] = []
        after = last = 0
        while page := await insisting(self._store.events, run.id, after, PAGE):
            for members in (event.to_dict() for event in page):
                counts[members["type"]] += 1
                starts = [*starts, members["time"]] if members["type"] == WORKFLOW_STARTED else []
            after = page[-1].number
        stepped_at = 0.0
        while steps := await insisting(self._store.steps, run.id, last, PAGE):
            stepped_at = max(stepped_at, *(step.ended_at or 0.0 for step in steps))
            last = steps[-1].number
        if last and run.steps is None:
            run.steps = StepLog(last)
        wanted = QuestionFilter(run_id=run.id, limit=1)
        waits = bool(await insisting(self._store.questions, wanted))  # its processes did not die of its work
        return _EarlierAttempts(counts, 0 if waits else sum(start > stepped_at for start in starts))


async def waited_for_answers(store: RunStore, run_id: str) -> float:
    """Return the seconds in which a run has waited for answers: they do not count for its deadline.

    Raises:
        BackendUnavailable: The store does not answer.
    """
    waited = end = 0.0
    for question in await store.questions(QuestionFilter(run_id=run_id, is_open=False, limit=QUESTIONS_OF_RUN)):
        closed_at = question.closed_at or time.time()
        waited += max(0.0, closed_at - max(end, question.asked_at))
        end = max(end, closed_at)
    return waited


async def insisting(call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Return what a call returns, once what it needs answers."""
    while True:
        try:
            return await call(*args)
        except BackendUnavailable:
            await asyncio.sleep(RETRY_SECONDS)
