"""`DurableRuns`: calls whose work a `RunEngine` does, in this process or in another one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core import jsontext
from nexus_core.errors import BackendUnavailable, NexusError, Overloaded, WorkflowNotFound
from nexus_core.events.event import WORKFLOW_FAILED, WORKFLOW_STARTED
from nexus_core.pipeline.invocation import Invocation
from nexus_core.runs.asking import QUESTIONS_OF_RUN
from nexus_core.runs.question import QuestionFilter
from nexus_core.runs.status import RunStatus
from nexus_core.runs.step_log import StepLog
from nexus_core.runs.stored_run import StoredRun
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nexus_core.pipeline.execution import Execution
    from nexus_core.runs.engine import Journal, RunEngine
    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.record import RunState
    from nexus_core.runs.recorder import RunRecorder
    from nexus_core.runs.run import Run
    from nexus_core.state.sessions import SessionStore
    from nexus_core.workflows.workflow import Workflow

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""Pause after the run store was unavailable."""

LEAVE_SECONDS = 2.0
"""How long work is waited for that this process leaves to others."""

PAGE = 1000
"""Events and steps that are read at once."""


class _Task(msgspec.Struct):
    """What the worker needs that is not in the run store: there, secrets are left out of the parameters."""

    params: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Task).decode


class DurableRuns:
    """Hands durable calls to the engine, waits for their runs, and works on runs where it was told to.

    Args:
        engine: Does the work again where a process has died.
        execution: Runs workflows.
        recorder: Stores runs.
        history: The runs of this process.
        find: Finds workflows.
        sessions: Where the sessions of runs are.
        is_durable: Whether a workflow's runs are durable.
        works: Whether this process works on runs.
    """

    def __init__(
        self, engine: RunEngine, execution: Execution, recorder: RunRecorder, history: RunHistory,
        find: Callable[[str], Workflow | None], sessions: SessionStore, is_durable: Callable[[Workflow], bool], *,
        works: bool,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.takes = is_durable
        self._execution = execution
        self._recorder = recorder
        self._store = recorder.store
        self._history = history
        self._find = find
        self._sessions = sessions
        self._works = works
        self._is_leaving = asyncio.Event()

    async def open(self) -> None:
        """Open the engine, once the run store is open.

        Raises:
            ConfigurationError: The engine can't be used as it is.
        """
        await self.engine.open(self._store.executor, self.perform if self._works else None)

    async def close(self) -> None:
        """Leave the runs at work to other processes, and close the engine."""
        self._is_leaving.set()
        await self.engine.close()

    # ---- where calls come in

    async def __call__(self, invocation: Invocation, workflow: Workflow) -> Result:
        """Accept a call, and return its result once some process has done the work.

        Raises:
            NexusError: The run failed.
            Overloaded: This process stops; the run goes on.
            BackendUnavailable: The run store or the engine can't take it.
        """
        run = invocation.run
        begin = time.monotonic()
        limit = self._execution.limit(invocation, workflow)
        session_id = invocation.session.id if invocation.session else None
        self._history.accept(run, invocation.principal, session_id, invocation.payer)
        deadline = None if limit is None else time.time() + limit
        await self._recorder.accept(
            run, workflow, invocation.validated_params, invocation.principal, session_id, deadline, invocation.trace
        )
        await self.engine.start(run.id, _encode(_Task(msgspec.Raw(jsontext.encode(invocation.validated_params)))))
        with run.hold():
            await self._ended(run)
            if run.error is not None:
                raise run.error.copy()
            result = run.result
        if result is None:
            raise Overloaded("This process stops. The run goes on at another one.", run_id=run.id, retry_after=1.0)
        return Result(result.json, run.id, time.monotonic() - begin)

    async def _ended(self, run: Run) -> None:
        """Wait until a run has ended or this process stops, and tell whoever works on it when it is cancelled."""
        loop = asyncio.get_running_loop()
        mirror = loop.create_task(self._mirror(run), name="nexus-run-mirror")
        leaving = loop.create_task(self._is_leaving.wait())
        try:
            while not run.ended and not self._is_leaving.is_set():
                changed = loop.create_task(run.changed())
                await asyncio.wait({changed, leaving}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        except asyncio.CancelledError:
            if not self._is_leaving.is_set():
                await self.cancel(run.id)
            raise
        finally:
            mirror.cancel()
            leaving.cancel()
        if not run.ended:
            run.leave()

    async def cancel(self, run_id: str) -> None:
        """Cancel a run, whichever process works on it."""
        await _insisting(self._store.request_cancel, run_id)
        await _insisting(self.engine.cancel, run_id)

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

    # ---- where the work is done

    async def perform(self, run_id: str, task: bytes, journal: Journal) -> None:
        """Do the work of a run; see `nexus_core.runs.engine.Perform`."""
        state: RunState | None = await _insisting(self._store.take, run_id)
        if state is None:
            return  # it was cancelled before its turn
        there = self._history.of_this_process(run_id)
        is_own = there is None or there.ended or there.is_left
        if there is None or is_own:
            run = self._history.restore(state, self._recorder.events)
        else:
            run = there
            for event in await _insisting(StoredRun(state, self._store).past, run.last_number):
                run.relay(event)
        self._recorder.taken(run, state.record.attempt)
        work = asyncio.get_running_loop().create_task(self._work(run, state, task, journal))
        try:
            await asyncio.shield(work)  # it hears of its end when the run is left: what it says then does not count
            await _insisting(self._recorder.flush, run)
        except BaseException:
            run.leave()
            self._recorder.released(run)
            work.cancel()
            await asyncio.wait({work}, timeout=LEAVE_SECONDS)
            raise
        finally:
            if is_own:
                self._history.end(run)
                run.close()

    async def _work(self, run: Run, state: RunState, task: bytes, journal: Journal) -> None:
        record = state.record
        published = await self._published(run) if record.attempt > 1 else {}
        if state.cancel_requested_at is not None:
            run.cancel_requested = True
        try:
            workflow = self._find(record.workflow)
            if workflow is None:
                raise WorkflowNotFound(f'There is no workflow "{record.workflow}" where the run was to be done.')
            params: dict[str, Any] = jsontext.parse_trusted(bytes(_decode(task).params))
            session = await self._sessions.get(record.session_id, record.owner) if record.session_id else None
            prepared = workflow.prepare(params)
        except NexusError as exc:
            run.publish(WORKFLOW_FAILED, error=exc)
            return
        invocation = Invocation(
            record.workflow, prepared, record.channel, validated_params=params, session=session, workflow=workflow,
            principal=None if record.principal is None else record.principal.principal(), trace=dict(record.trace),
            run=run,
        )  # fmt: skip
        run.status = RunStatus.RUNNING
        run.publish(WORKFLOW_STARTED, {"attempt": record.attempt} if record.attempt > 1 else None)
        left = None
        if record.deadline is not None:
            waited = await self._waited(run) if record.attempt > 1 else 0.0
            left = max(record.deadline + waited - time.time(), 0.0)
        await self._execution.work(invocation, workflow, journal, published, left)

    async def _waited(self, run: Run) -> float:
        """Return the seconds in which the run has waited for answers: they do not count for its deadline."""
        wanted = QuestionFilter(run_id=run.id, is_open=False, limit=QUESTIONS_OF_RUN)
        waited = end = 0.0
        for question in await _insisting(self._store.questions, wanted):  # the oldest first
            closed_at = question.closed_at or time.time()
            waited += max(0.0, closed_at - max(end, question.asked_at))
            end = max(end, closed_at)
        return waited

    async def _published(self, run: Run) -> Mapping[str, int]:
        """Return how many events of each type are stored of a run, and let its steps go on behind those."""
        counts: Counter[str] = Counter()
        after = 0
        while page := await _insisting(self._store.events, run.id, after, PAGE):
            counts.update(event.to_dict()["type"] for event in page)
            after = page[-1].number
        last = 0
        while steps := await _insisting(self._store.steps, run.id, last, PAGE):
            last = steps[-1].number
        if last and run.steps is None:
            run.steps = StepLog(last)
        return counts


async def _insisting(call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Return what a call returns, once what it needs answers."""
    while True:
        try:
            return await call(*args)
        except BackendUnavailable:
            await asyncio.sleep(RETRY_SECONDS)
