"""`Invoking`: the part of `Nexus` that takes calls, from event loops and from threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.pipeline.invocation import Caller, Invocation

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from nexus_core.app.dispatch import Dispatcher
    from nexus_core.app.questions import LinkedQuestion
    from nexus_core.app.view import CallerView
    from nexus_core.runs.run import Run
    from nexus_core.runs.stored_run import AnyRun
    from nexus_core.types.result import Result


class Invoking:
    """How workflows are called, and what callers see."""

    _dispatcher: Dispatcher

    def invoke(
        self, workflow: str | Invocation, params: Mapping[str, Any] | None = None
    ) -> Coroutine[Any, Any, Result]:
        """Run a workflow in the caller's place: cancelling the call cancels the run, unless it has an idempotency key.

        A platform that is not started is started: on the running event loop in the main thread, and from other
        threads on a dedicated event loop, since theirs come and go.

        Args:
            workflow: A name, or an `Invocation` that a channel has made.
            params: The parameters, with a name.

        Raises:
            NexusError: The call was refused or failed; the class says how. `RunCancelled` where the platform is started
                on another event loop, and that ends meanwhile.
            ConfigurationError: The platform was not started yet, and can't be.
        """
        invocation = Invocation(workflow, dict(params or {})) if isinstance(workflow, str) else workflow
        return self._dispatcher.invoke(invocation)

    def invoke_sync(self, workflow: str | Invocation, params: Mapping[str, Any] | None = None) -> Result:
        """Run a workflow and wait for it in this thread, which has no event loop: a Flask view, a job, a script.

        The platform may be served meanwhile, by this or another thread. One that is not started is started on a
        dedicated event loop, in a thread that all such calls share; it stops with the process, with `stop`, or when
        the platform is started elsewhere.

        Args:
            workflow: A name, or an `Invocation`.
            params: The parameters, with a name.

        Raises:
            NexusError: The call was refused or failed; the class says how.
            ConfigurationError: An event loop runs on this thread, or the platform can't be started.

        Example:
            ```python
            total = nexus.invoke_sync("order", {"item": "tea", "count": 2}).value
            ```
        """
        invocation = Invocation(workflow, dict(params or {})) if isinstance(workflow, str) else workflow
        return self._dispatcher.invoke_sync(invocation)

    def invoke_within(self, invocation: Invocation, seconds: float) -> Coroutine[Any, Any, Result | Run]:
        """Run a workflow in the caller's place, and return its result, or the run if that goes on after so long.

        Until then, cancelling the call cancels the run, as with `invoke`. A run that has been returned runs in
        the background and keeps its result.

        Args:
            invocation: The call.
            seconds: How long to wait, to within `nexus_core.concurrency.timers.TICK`.

        Raises:
            NexusError: The call was refused or failed in that time.
            ConfigurationError: The platform was not started yet, and can't be.
        """
        return self._dispatcher.invoke_within(invocation, seconds)

    def submit(self, invocation: Invocation) -> Run:
        """Start a run in the background, and return it: to wait for, follow or cancel.

        Whatever is wrong with the invocation ends the run. Call it on the event loop that the platform is started on.

        Raises:
            ConfigurationError: This is another event loop.
        """
        return self._dispatcher.submit(invocation)

    async def retry(self, run_id: str, *, caller: Caller | None = None) -> AnyRun:
        """Start a new run with the workflow and the parameters of one that has ended, and return it.

        Args:
            run_id: The run. It must have ended, or be blocked; in the latter case it is cancelled.
            caller: The caller of the new run. None for a call from code, without a principal.

        Raises:
            RunNotFound: The caller has no such run.
            Conflict: It goes on, or its parameters are not kept.
            NexusError: The call was refused.
            ConfigurationError: This is another event loop than the platform's.
        """
        return await (await self.view(caller or Caller())).repeats.retry(run_id)

    async def fork(
        self, run_id: str, from_step: str | int, params: Mapping[str, Any] | None = None, *,
        caller: Caller | None = None,
    ) -> AnyRun:  # fmt: skip
        """Start a new run that has done what a durable run did before a step, and does the rest again; see `retry`.

        Args:
            run_id: The run. It must have ended, or be blocked; in the latter case it is cancelled.
            from_step: The first step that is done again: its name, or its number among the recorded ones, from 1.
            params: New parameters; None for those of the run.
            caller: See `retry`.

        Raises:
            ValidationError: The run has recorded no such step.
            Conflict: It goes on, is not durable, or its steps are not kept.
            RunNotFound, NexusError, ConfigurationError: See `retry`.
        """
        return await (await self.view(caller or Caller())).repeats.fork(run_id, from_step, params)

    async def authenticate(self, caller: Caller) -> None:
        """Authenticate a caller, and set its ``principal``. Does nothing where authentication is off.

        Raises:
            AuthenticationError: The credentials are missing or wrong.
        """
        await self._dispatcher.authenticate(caller)

    async def linked_question(self, token: str) -> LinkedQuestion:
        """Return the question that a link leads to: who has the link may answer it, once.

        Args:
            token: What the link ends with; see `Asked.token`.

        Raises:
            QuestionNotFound: The link is not valid.
            BackendUnavailable: The run store does not answer.
        """
        return await self._dispatcher.linked_question(token)

    async def view(self, caller: Caller) -> CallerView:
        """Return what a caller may see: workflows, runs, sessions, events. It counts as a call where calls are limited.

        Args:
            caller: What the channel received of the caller.

        Raises:
            AuthenticationError: The credentials are missing or wrong.
            RateLimited: The caller has used up its budget.
        """
        return await self._dispatcher.view(caller)
