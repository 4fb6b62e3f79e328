"""`Dispatcher`: passes invocations through the pipeline, and ensures that each ends its run."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nexus_core.app.questions import LinkedQuestion
from nexus_core.app.view import CallerView
from nexus_core.concurrency.own_loop import hand_over, wait_for
from nexus_core.concurrency.threads import ENDS_PROCESS
from nexus_core.errors import ConfigurationError, NexusError, RunCancelled
from nexus_core.events.event import WORKFLOW_CANCELLED, WORKFLOW_COMPLETED, WORKFLOW_FAILED
from nexus_core.pipeline.credentials import CredentialWatch
from nexus_core.runs.run import Run

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.app.controller import LifecycleController
    from nexus_core.app.state import PlatformState
    from nexus_core.pipeline.invocation import Caller, Invocation
    from nexus_core.types.result import Result

log = logging.getLogger(__name__)


STORE_SECONDS = 1.0
"""Seconds between two attempts to store a run whose caller wants to leave."""


class Dispatcher:
    """Takes every call of a platform.

    Args:
        state: The parts of the platform.
        controller: Starts the platform at the first call, if it is not started.

    Attributes:
        credentials: Ends what callers have open when their credentials end.
    """

    def __init__(self, state: PlatformState, controller: LifecycleController) -> None:
        self._state = state
        self._controller = controller
        self._find = state.workflows.find
        self._runs = state.runs
        self._events = state.events
        self._timers = state.timers
        self._submitted: set[asyncio.Task[None]] = set()
        self._left_behind: set[asyncio.Task[Result]] = set()
        self.credentials = CredentialWatch(self.verify)

    async def invoke(self, invocation: Invocation) -> Result:
        """See `Nexus.invoke`."""
        running = self._state.running
        if running is None or running.loop is not asyncio.get_running_loop():
            if (home := self._elsewhere()) is not None:
                return await hand_over(home, self.invoke(invocation))
        if invocation.idempotency_key is not None:  # a repeat wants its answer: it goes on when the caller leaves
            return await self.submit(invocation).outcome()
        return await self._process(invocation, self._new_run(invocation, keeps_result=False))

    def _new_run(self, invocation: Invocation, *, keeps_result: bool = True) -> Run:
        has_key = invocation.idempotency_key is not None
        run = Run(invocation.name, invocation.channel, self._events, has_key=has_key, keeps_result=keeps_result)
        if invocation.run_id is not None:
            run.id = invocation.run_id
        return run

    def invoke_sync(self, invocation: Invocation) -> Result:
        """See `Nexus.invoke_sync`."""
        if asyncio._get_running_loop() is not None:
            raise ConfigurationError(
                "invoke_sync() would block the event loop that runs on this thread: use await nexus.invoke()."
            )
        return wait_for(self._controller.home(None), self.invoke(invocation))

    def _elsewhere(self) -> asyncio.AbstractEventLoop | None:
        """Return the event loop of the platform, if it is another one than the caller's."""
        here, running = asyncio.get_running_loop(), self._state.running
        if running is not None and running.loop is here:
            return None
        home = self._controller.home(here)
        return None if home is here else home

    async def invoke_within(self, invocation: Invocation, seconds: float) -> Result | Run:
        """See `Nexus.invoke_within`."""
        run = self._new_run(invocation, keeps_result=False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._process(invocation, run))
        woken: asyncio.Future[None] = loop.create_future()

        def wake(_: object = None) -> None:
            if not woken.done():
                woken.set_result(None)

        task.add_done_callback(wake)
        timer = self._timers.schedule(seconds, wake)
        running = self._state.running
        if running is not None:
            running.desk.on_waiting(run, wake)  # it may take days
        try:
            await woken
            if not task.done():
                await run.started_or_rejected()  # what the policies refuse is refused at once
                await self._stored_or_ended(run, task)
        except asyncio.CancelledError:
            if run.has_key:
                self._leave_behind(task)
            else:
                task.cancel()
            raise
        finally:
            self._timers.cancel(timer)
            if running is not None:
                running.desk.off_waiting(run)
        if task.done():
            return task.result()
        run.keeps_result, run.payer = True, invocation.payer
        self._leave_behind(task)
        return run

    async def _stored_or_ended(self, run: Run, task: asyncio.Task[Result]) -> None:
        """Wait until the run store has a run that its caller leaves; while it is unavailable, the call goes on."""
        running = self._state.running
        recorder = None if running is None else running.recorder
        while recorder is not None and not task.done() and not await recorder.has_stored(run):
            await asyncio.wait({task}, timeout=STORE_SECONDS)

    def _leave_behind(self, task: asyncio.Task[Result]) -> None:
        """Let a call go on that nobody waits for any more: its run has what becomes of it."""
        self._left_behind.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._left_behind.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None and not isinstance(exc, NexusError):
            log.error("A call could not be started: %s", exc)

    def submit(self, invocation: Invocation) -> Run:
        """See `Nexus.submit`."""
        running = self._state.running
        if running is not None and running.loop.is_running() and running.loop is not asyncio.get_running_loop():
            raise ConfigurationError("submit() was called on another event loop than the platform's: use invoke().")
        run = self._new_run(invocation)
        task = asyncio.get_running_loop().create_task(self._submitted_run(invocation, run), name=f"nexus-run-{run.id}")
        run.attach(task)
        self._submitted.add(task)
        task.add_done_callback(lambda task: self._submission_ended(task, run))
        return run

    def _submission_ended(self, task: asyncio.Task[None], run: Run) -> None:
        self._submitted.discard(task)
        # Cancelled before its first step, a task never enters the coroutine that would say so.
        run.publish(WORKFLOW_CANCELLED, error=RunCancelled("The run was cancelled.", run_id=run.id))
        run.close()

    async def _submitted_run(self, invocation: Invocation, run: Run) -> None:
        try:
            result = await self._process(invocation, run)
        except NexusError:
            return  # the run has it
        except ConfigurationError as exc:
            log.error("Run %s of %s could not be started: %s", run.id, run.workflow, exc)
            return
        run.publish(WORKFLOW_COMPLETED, result=result)  # does nothing after an execution, which has said so itself

    async def _process(self, invocation: Invocation, run: Run) -> Result:
        """Pass an invocation through the pipeline; whatever goes wrong ends its run and is a `NexusError`."""
        invocation.run = run
        running = self._state.running
        try:
            invocation.workflow = workflow = self._find(invocation.name)
            if workflow is not None:
                parent = invocation.parent
                run.basis = workflow.basis if parent is None else {**workflow.basis, "parent": parent}
            if running is None or running.loop is not asyncio.get_running_loop():
                running = await self._controller.start()
            return await running.call(invocation)
        except NexusError as exc:
            run.publish(WORKFLOW_FAILED, error=exc)
            exc.reply = await run.reply()
            raise
        except GeneratorExit:
            raise  # the coroutine is thrown away
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and _is_being_cancelled():
                run.publish(WORKFLOW_CANCELLED, error=RunCancelled("The run was cancelled.", run_id=run.id))
                raise
            error = NexusError("Internal error; the server's log has the reason.", run_id=run.id)
            run.publish(WORKFLOW_FAILED, error=error)
            if isinstance(exc, ConfigurationError):  # the platform can't be started: the embedding program's to mend
                raise
            log.exception("The pipeline raised an exception for run %s of %s", run.id, run.workflow)
            raise error from None
        finally:
            self._runs.end(run)
            run.close()

    async def authenticate(self, caller: Caller) -> None:
        """See `Nexus.authenticate`."""
        if (home := self._elsewhere()) is not None:
            return await hand_over(home, self.authenticate(caller))
        running = await self._controller.start()
        if caller.principal is None and running.authenticates:
            await _unharmed(running.authenticate(caller))

    async def verify(self, caller: Caller) -> None:
        """Authenticate a caller once more, for what it has open: nothing is counted, nothing else is asked."""
        running = self._state.running
        if running is not None:
            await running.verify(caller)

    async def linked_question(self, token: str) -> LinkedQuestion:
        """See `Nexus.linked_question`."""
        running = await self._controller.start()
        return await LinkedQuestion.of(running.desk.store, running.runs, token)

    async def view(self, caller: Caller) -> CallerView:
        """See `Nexus.view`."""
        running = await self._controller.start()
        await _unharmed(running.identify(caller))
        return CallerView(
            self._state, self._controller.start, self.credentials, caller, running.authorizers, self.submit
        )


def _is_being_cancelled() -> bool:
    """Whether somebody has cancelled the current task, or code only raises as if."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _unharmed(asking: Awaitable[Result]) -> None:
    """Await stages that must not end the process with what they raise."""
    try:
        await asking
    except ENDS_PROCESS as exc:
        raise RuntimeError(f"a stage raised {exc!r}") from exc
