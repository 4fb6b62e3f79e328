"""The pipeline's built-in stages, and the execution at its end."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from nexus_core import jsontext
from nexus_core.concurrency.guarded import late_failure_log
from nexus_core.concurrency.threads import ENDS_PROCESS
from nexus_core.errors import (
    CodeChanged,
    MalformedRequest,
    NexusError,
    RunCancelled,
    WorkflowError,
    WorkflowFailed,
    WorkflowTimeout,
)
from nexus_core.events.event import WORKFLOW_CANCELLED, WORKFLOW_COMPLETED, WORKFLOW_FAILED
from nexus_core.options.settings import MAX_SECONDS, is_time_limit
from nexus_core.pipeline.approval import require_approval
from nexus_core.runs.context import Context, current_run
from nexus_core.runs.durable_context import DurableContext
from nexus_core.runs.steps import StepRunner
from nexus_core.schema.report import summary
from nexus_core.text import printable
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.concurrency.timers import Timers
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.runs.asking import QuestionDesk
    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.journal import Journal
    from nexus_core.runs.recorder import RunRecorder
    from nexus_core.runs.run import Run
    from nexus_core.state.sessions import SessionStore
    from nexus_core.workflows.workflow import Workflow

    Approve = Callable[[Workflow, Invocation, Context], Awaitable[None]]

log = logging.getLogger(__name__)

_log_late_failure = late_failure_log(log.warning, "A workflow that had timed out raised an exception")


class TakesDurable(Protocol):
    """What takes the calls whose runs are durable."""

    takes: Callable[[Workflow], bool]

    def __call__(self, invocation: Invocation, workflow: Workflow) -> Awaitable[Result]:
        """Return the result of a call, wherever the work is done."""


class Execution:
    """Runs the workflow in a separate task, until it ends, its deadline passes or its run is cancelled.

    The caller gets its answer at the deadline even when the workflow's code does not stop then.

    Args:
        runs: Where runs are kept.
        timers: Where time limits are kept.
        timeout: Seconds a run may take, if its workflow sets no other limit; None for no limit.
        max_result_bytes: The largest result, as JSON text.
        sessions: Where what a workflow has changed in its caller's session is kept, when it succeeds.
        service: Returns what plugins have for workflows.
        threads: Where sync steps of workflows run.
        desk: Asks what workflows ask.
        recorder: Stores runs; None where they are kept in this process alone.

    Attributes:
        durable: Takes the calls whose runs are durable; None where none is.
    """

    def __init__(
        self,
        runs: RunHistory,
        timers: Timers,
        timeout: float | None,
        max_result_bytes: int,
        sessions: SessionStore,
        service: Callable[[str], Any],
        threads: DaemonThreads,
        desk: QuestionDesk,
        recorder: RunRecorder | None = None,
    ) -> None:
        self.durable: TakesDurable | None = None
        self._desk = desk
        self._recorder = recorder
        self._steps = StepRunner(threads, None if recorder is None else recorder.step)
        self._runs = runs
        self._sessions = sessions
        self._timers = timers
        self._timeout = timeout
        self._max_result_bytes = max_result_bytes
        self._service = service

    def __call__(self, invocation: Invocation) -> Awaitable[Result]:
        """Run the invocation's workflow and return its result."""
        workflow = invocation.workflow
        assert workflow is not None  # the resolve stage has seen to it
        if self.durable is not None and self.durable.takes(workflow):
            return self.durable(invocation, workflow)
        return self._run(invocation, workflow, self.limit(invocation, workflow), None)

    async def work(
        self, invocation: Invocation, workflow: Workflow, journal: Journal, published: Mapping[str, int],
        left: float | None,
    ) -> None:  # fmt: skip
        """Do the work of a durable run, from where its journal ends. Its run has how it ended.

        Args:
            invocation: The call, as it was accepted.
            workflow: The workflow.
            journal: What the run has done so far.
            published: See `DurableContext`.
            left: Seconds until its deadline, or None without one.

        Raises:
            CodeChanged: The run can't go on with the workflow's code. It has not ended.
        """
        deadline = None if left is None else time.monotonic() + left
        context = DurableContext(
            journal, published, run=invocation.run, principal=invocation.principal, session=invocation.session,
            loop=asyncio.get_running_loop(), deadline=deadline,
            max_result_bytes=self._max_result_bytes, service=self._service, step_runner=self._steps, desk=self._desk,
        )  # fmt: skip
        try:
            await self._run(invocation, workflow, left, context)
        except CodeChanged:
            raise
        except NexusError:
            return  # its run has it

    async def _run(
        self, invocation: Invocation, workflow: Workflow, limit: float | None, context: Context | None
    ) -> Result:
        """Run a workflow, and return its result. Without a context, the run begins."""
        run, begin = invocation.run, time.monotonic()
        if context is None:
            left = limit
            if limit is not None and invocation.queued:
                left = max(limit - invocation.queued, 0.0)
            context = Context(
                run, invocation.principal, invocation.session, asyncio.get_running_loop(),
                None if left is None else begin + left, self._max_result_bytes, self._service, self._steps, self._desk,
            )  # fmt: skip
            if self._recorder is not None:
                await self._recorder.begin(
                    run, workflow, invocation.validated_params, invocation.principal,
                    invocation.session.id if invocation.session else None,
                    None if left is None else time.time() + left, invocation.trace,
                )  # fmt: skip
            invocation.begin_run(self._runs)
        try:
            approve = None if workflow.approval is None else partial(require_approval, self._desk, workflow.approval)
            work = _WorkflowTask(workflow, invocation, context, approve)
            value = await self._finished(work, run, limit, context)
            text = self._text(workflow, value, run)
            if invocation.session is not None:
                await self._sessions.used(invocation.session, invocation.channel)
        except CodeChanged:
            raise
        except NexusError as exc:
            exc.run_id = run.id
            kind = WORKFLOW_CANCELLED if isinstance(exc, RunCancelled) else WORKFLOW_FAILED
            run.publish(kind, error=exc, duration=time.monotonic() - begin)
            raise
        result = Result(text, run.id, time.monotonic() - begin)
        run.publish(WORKFLOW_COMPLETED, result=result, duration=result.duration)
        return result

    async def _finished(self, work: _WorkflowTask, run: Run, limit: float | None, context: Context) -> Any:
        """Return what the work returns, or raise what the caller may know of its failure.

        It need not agree to stop at its time limit or when it is cancelled: it may go on, and its run notes it.
        """
        task = work.task
        if not task.done():
            run.attach(task, work.wake)
            context.limit_moved = work.wake
            deadline = context.deadline
            timer = None if deadline is None else self._timers.schedule(deadline - time.monotonic(), work.wake)
            try:
                if context.mismatch is None:
                    await work.awakened
                while not (task.done() or run.cancel_requested or context.mismatch) and self._has_time(run, context):
                    if timer is not None:
                        self._timers.cancel(timer)
                    work.awakened = work.awakened.get_loop().create_future()
                    timer = self._time_limit(run, context, work)
                    await work.awakened
            except asyncio.CancelledError:
                run.cancel()
                run.publish(WORKFLOW_CANCELLED, error=RunCancelled("The caller disconnected.", run_id=run.id))
                raise
            finally:
                if timer is not None:
                    self._timers.cancel(timer)
                if not task.done():
                    task.add_done_callback(_log_late_failure)
                    run.track_background_work(task)
                    if not run.cancel_requested:  # a second cancellation would end its cleaning up
                        task.cancel()
        if context.mismatch is not None and not run.cancel_requested:
            raise CodeChanged(f"Code changed: {context.mismatch}.", run_id=run.id)
        return _value(task, run, limit)

    def _time_limit(self, run: Run, context: Context, work: _WorkflowTask) -> int | None:
        """Let the caller look when the time limit has come; it stands still while the run waits for an answer."""
        if context.deadline is None or self._desk.is_waiting(run):
            return None
        return self._timers.schedule(context.deadline - time.monotonic(), work.wake)

    def _has_time(self, run: Run, context: Context) -> bool:
        """Whether the time limit has not come, after all: an answer has moved it."""
        return self._desk.is_waiting(run) or context.deadline is None or time.monotonic() < context.deadline

    def limit(self, invocation: Invocation, workflow: Workflow) -> float | None:
        """Return the seconds that a run may take.

        Raises:
            MalformedRequest: The caller's wish is no number of seconds.
        """
        own = workflow.timeout if workflow.timeout is not None else self._timeout
        wish = invocation.timeout
        if wish is None:
            return own
        if not is_time_limit(wish):
            raise MalformedRequest(f"timeout must be a number of seconds, above 0 and at most {MAX_SECONDS:.0f}.")
        return wish if own is None else min(own, wish)

    def _text(self, workflow: Workflow, value: Any, run: Run) -> bytes:
        """Return a value as JSON text, if it has one and it is what the workflow promised."""
        try:
            text = jsontext.encode(value)
        except (TypeError, ValueError) as exc:
            log.error("The result of run %s of %s cannot be converted to JSON: %s", run.id, workflow.name, exc)
            raise WorkflowFailed(
                f"The workflow's result cannot be converted to JSON: {printable(str(exc), 200)}."
            ) from None
        if len(text) > self._max_result_bytes:
            raise WorkflowFailed(
                f"The workflow's result has {len(text)} bytes; max_result_bytes is {self._max_result_bytes}."
            )
        if workflow.output_validator is not None:
            errors = workflow.output_validator.errors(jsontext.parse_trusted(text))
            if errors:
                log.error(
                    "The result of run %s of %s does not match its output schema: %s",
                    run.id,
                    workflow.name,
                    summary(errors),
                )
                raise WorkflowFailed(f"The workflow's result does not match its output schema: {summary(errors)}.")
        return text


class _WorkflowTask:
    """A workflow at work in a separate task, and the future that its caller sleeps on."""

    __slots__ = ("awakened", "task")

    def __init__(
        self, workflow: Workflow, invocation: Invocation, context: Context, approve: Approve | None
    ) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        self.awakened: asyncio.Future[None] = loop.create_future()
        self.task = start_task(self._run(workflow, invocation, context, approve), loop)
        if not self.task.done():
            self.task.add_done_callback(self.wake)

    def wake(self, _: object = None) -> None:
        """Let the caller look what has happened."""
        if not self.awakened.done():
            self.awakened.set_result(None)

    async def _run(
        self, workflow: Workflow, invocation: Invocation, context: Context, approve: Approve | None
    ) -> Any:  # fmt: skip
        current_run.set(context.run)  # in the task's own copy of the context variables: there is nothing to reset
        try:
            if approve is not None:
                await approve(workflow, invocation, context)
            return await workflow.run(invocation.params, context)
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
        raise failed(run, RuntimeError("it cancelled itself"))
    exc = task.exception()
    if exc is None:
        return task.result()
    if isinstance(exc, WorkflowError):
        raise exc
    raise failed(run, exc) from None


def failed(run: Run, exc: BaseException) -> WorkflowFailed:
    """Return what the caller may learn about an exception in the workflow's own code; the log gets the rest."""
    log.error("Run %s of %s failed", run.id, run.workflow, exc_info=exc)
    return WorkflowFailed("The workflow failed; the server's log has the reason under the run's id.", run_id=run.id)
