"""The pipeline's built-in stages, and the execution at its end."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.context import Context, current_run
from nexus_core.errors import (
    MalformedRequest,
    NexusError,
    RunCancelled,
    WorkflowError,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTimeout,
)
from nexus_core.events import WORKFLOW_CANCELLED, WORKFLOW_COMPLETED, WORKFLOW_FAILED
from nexus_core.invocation import Invocation, Result
from nexus_core.options import MAX_SECONDS
from nexus_core.pipeline import Call, Stage
from nexus_core.resolvers import fitting, outcome, raw_parameters
from nexus_core.schema.report import nearest, printable, summary
from nexus_core.threads import ENDS_PROCESS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from nexus_core.alarms import Alarms
    from nexus_core.resolvers import ParameterResolver
    from nexus_core.run_store import RunStore
    from nexus_core.runs import Run
    from nexus_core.sessions import SessionStore
    from nexus_core.threads import DaemonThreads
    from nexus_core.workflow import Workflow

log = logging.getLogger(__name__)


class SessionLookup:
    """Finds the session that the caller names. A call that names none pays nothing."""

    stage = Stage.SESSION

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Put the session into the invocation."""
        session_id = invocation.session_id
        return call_next(invocation) if session_id is None else self._with(session_id, invocation, call_next)

    async def _with(self, session_id: str, invocation: Invocation, call_next: Call) -> Result:
        invocation.session = await self._store.get(session_id, invocation.owner)
        return await call_next(invocation)


class Resolution:
    """Finds the workflow and makes its parameters out of the raw ones."""

    stage = Stage.RESOLVE

    def __init__(
        self, resolvers: Sequence[ParameterResolver], threads: DaemonThreads, limit: Callable[..., float | None]
    ) -> None:
        self._resolvers = resolvers
        self._threads = threads
        self._limit = limit

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        """Put parameters that fit the workflow's schema into the invocation."""
        workflow = invocation.workflow
        if workflow is None:
            raise unknown_workflow(invocation.name)
        params = invocation.params
        if type(params) is not dict:
            if params is not None:
                raise MalformedRequest(f"The parameters must be a JSON object, not {jsontext.type_name(params)}.")
            params = {}
        if invocation.source is not None:
            if workflow.reads_decimals and params:
                params = workflow.with_decimals(params, jsontext.exactly(*invocation.source))
            invocation.source = None
        if self._resolvers:
            params = await self._resolved(invocation, params, workflow)
        invocation.given = params
        try:
            invocation.params = workflow.prepare(params)
        except NexusError:
            raise
        except Exception as exc:  # a validator of the workflow's own types
            raise _failed(invocation.run, exc) from None
        return await call_next(invocation)

    async def _resolved(self, invocation: Invocation, given: dict[str, Any], workflow: Workflow) -> dict[str, Any]:
        """Return what the resolvers make of parameters, within the time that the run may take."""
        limit = self._limit(invocation, workflow)
        params, added = given, frozenset[str]()
        try:
            async with asyncio.timeout(limit) as patience:
                for resolver in self._resolvers:
                    raw = raw_parameters(invocation, params, added)
                    call = resolver.resolve_parameters
                    returned = await self._threads.call(call, invocation.name, invocation.channel, raw)
                    params = outcome(resolver, returned, raw)
                    added = frozenset(params.keys() - given.keys())
        except TimeoutError:
            if not patience.expired():  # a resolver's own
                raise
            raise WorkflowTimeout(f"The parameters were not resolved within {limit:g} seconds.") from None
        return fitting(workflow, params, added)


def unknown_workflow(name: str, known: Sequence[str] = ()) -> WorkflowNotFound:
    """Return the error for a workflow that is not there, with the nearest of the names the caller may know."""
    near = nearest(name, known)
    hint = f' Did you mean "{near}"?' if near else ""
    return WorkflowNotFound(f'There is no workflow "{printable(name)}".{hint}')


class Execution:
    """Runs the workflow in a task of its own, until it ends, its deadline passes or its run is cancelled.

    The caller gets its answer at the deadline even when the workflow's code does not stop then.

    Args:
        runs: Where runs are kept.
        alarms: Where time limits are kept.
        timeout: Seconds a run may take unless its workflow says otherwise; None for no limit.
        max_result_bytes: The largest result, as JSON text.
        sessions: Where what a workflow has changed in its caller's session is kept, when it succeeds.
        service: Returns what plugins have for workflows.
    """

    def __init__(
        self,
        runs: RunStore,
        alarms: Alarms,
        timeout: float | None,
        max_result_bytes: int,
        sessions: SessionStore,
        service: Callable[[str], Any],
    ) -> None:
        self._runs = runs
        self._sessions = sessions
        self._alarms = alarms
        self._timeout = timeout
        self._max_result_bytes = max_result_bytes
        self._service = service

    async def __call__(self, invocation: Invocation) -> Result:
        """Run the invocation's workflow and return its result."""
        run, workflow = invocation.run, invocation.workflow
        assert workflow is not None  # the resolve stage has seen to it
        begin = time.monotonic()
        limit = self.limit(invocation, workflow)
        deadline = None if limit is None else begin + limit
        context = Context(invocation, asyncio.get_running_loop(), deadline, self._max_result_bytes, self._service)
        self._runs.begin(run, invocation)
        try:
            value = await self._finished(_Work(workflow, invocation.params, context), run, limit)
            text = self._text(workflow, value, run)
            if invocation.session is not None:
                await self._sessions.used(invocation.session, invocation.channel)
        except NexusError as exc:
            exc.run_id = run.id
            kind = WORKFLOW_CANCELLED if isinstance(exc, RunCancelled) else WORKFLOW_FAILED
            run.publish(kind, error=exc, duration=time.monotonic() - begin)
            raise
        result = Result(text, run.id, time.monotonic() - begin)
        run.publish(WORKFLOW_COMPLETED, result=result, duration=result.duration)
        return result

    async def _finished(self, work: _Work, run: Run, limit: float | None) -> Any:
        """Return what the work returns, or raise what the caller may know of its failure.

        It need not agree to stop at its time limit or when it is cancelled: it may go on, and its run notes it.
        """
        task = work.task
        if not task.done():
            run.attach(task, work.wake)
            alarm = None if limit is None else self._alarms.set(limit, work.wake)
            try:
                await work.awakened
            except asyncio.CancelledError:
                run.cancel()
                run.publish(WORKFLOW_CANCELLED, error=RunCancelled("The caller left.", run_id=run.id))
                raise
            finally:
                if alarm is not None:
                    self._alarms.clear(alarm)
                if not task.done():
                    task.add_done_callback(_retrieve)
                    run.outlives(task)
                    if not run.cancel_requested:  # a second cancellation would end its cleaning up
                        task.cancel()
        return _value(task, run, limit)

    def limit(self, invocation: Invocation, workflow: Workflow) -> float | None:
        """Return the seconds that a run may take.

        Raises:
            MalformedRequest: The caller's wish is no number of seconds.
        """
        own = workflow.timeout if workflow.timeout is not None else self._timeout
        wish = invocation.timeout
        if wish is None:
            return own
        if not 0 < wish <= MAX_SECONDS:  # nor is NaN
            raise MalformedRequest(f"timeout must be a number of seconds, above 0 and at most {MAX_SECONDS:.0f}.")
        return wish if own is None else min(own, wish)

    def _text(self, workflow: Workflow, value: Any, run: Run) -> bytes:
        """Return a value as JSON text, if it has one and it is what the workflow promised."""
        try:
            text = jsontext.encode(value)
        except (TypeError, ValueError) as exc:
            log.error("Run %s of %s returned something that is not JSON: %s", run.id, workflow.name, exc)
            raise WorkflowFailed(f"The workflow's result is not JSON: {printable(str(exc), 200)}.") from None
        if len(text) > self._max_result_bytes:
            raise WorkflowFailed(
                f"The workflow's result has {len(text)} bytes; max_result_bytes is {self._max_result_bytes}."
            )
        if workflow.output_validator is not None:
            errors = workflow.output_validator.errors(jsontext.parse_trusted(text))
            if errors:
                log.error("Run %s of %s broke its output schema: %s", run.id, workflow.name, summary(errors))
                raise WorkflowFailed(f"The workflow's result does not fit its output schema: {summary(errors)}.")
        return text


class _Work:
    """A workflow at work in a task of its own, and the future that its caller sleeps on."""

    __slots__ = ("awakened", "task")

    def __init__(self, workflow: Workflow, params: dict[str, Any], context: Context) -> None:
        loop = asyncio.get_running_loop()
        self.awakened: asyncio.Future[None] = loop.create_future()
        self.task = start_task(self._run(workflow, params, context), loop)
        if not self.task.done():
            self.task.add_done_callback(self.wake)

    def wake(self, _: object = None) -> None:
        """Let the caller look what has happened."""
        if not self.awakened.done():
            self.awakened.set_result(None)

    async def _run(self, workflow: Workflow, params: dict[str, Any], context: Context) -> Any:
        current_run.set(context.run)  # in the task's own copy of the context variables: there is nothing to reset
        try:
            return await workflow.run(params, context)
        except ENDS_PROCESS as exc:
            raise RuntimeError(f"the workflow raised {exc!r}") from exc
        finally:
            self.wake()  # one turn of the event loop earlier than the task's own callback


def _start_lazily(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
    return loop.create_task(work)


def _start_eagerly(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
    return asyncio.Task(work, loop=loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]


start_task = _start_eagerly if sys.version_info >= (3, 12) else _start_lazily
"""Starts a task, at once where Python can: work that does not wait for anything then needs no event loop."""


def _value(task: asyncio.Task[Any], run: Run, limit: float | None) -> Any:
    """Return what the task returned, or raise what the caller may know of its failure."""
    if run.cancel_requested and (not task.done() or task.cancelled()):
        raise RunCancelled("The run was cancelled.")
    if not task.done():
        run.cancel_requested = True  # what still runs, in a thread perhaps, sees `Context.cancelled`
        raise WorkflowTimeout(f"The workflow did not finish within {limit:g} seconds.")
    if task.cancelled():
        raise _failed(run, RuntimeError("it cancelled itself"))
    exc = task.exception()
    if exc is None:
        return task.result()
    if isinstance(exc, WorkflowError):
        raise exc
    raise _failed(run, exc) from None


def _failed(run: Run, exc: BaseException) -> WorkflowFailed:
    """Return what the caller may know of an exception in the workflow's own code; the log gets the rest."""
    log.error("Run %s of %s failed", run.id, run.workflow, exc_info=exc)
    return WorkflowFailed("The workflow failed; the server's log has the reason under the run's id.", run_id=run.id)


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("A workflow that had timed out ended with an exception", exc_info=task.exception())
