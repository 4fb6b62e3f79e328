"""`LeaseWait`: a call that waits for an equal call's result, up to its own time limit."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core import RunCancelled, WorkflowTimeout
from nexus_core.events.event import WORKFLOW_CANCELLED, WORKFLOW_COMPLETED

if TYPE_CHECKING:
    from nexus_core import Invocation, Result
    from nexus_core.runs.history import RunHistory


class LeaseWait:
    """One call's wait for an equal call, in this process or, by its lease, in another. Free of cost before `begin`.

    From `begin` on the waiting run can be listed and cancelled.

    Args:
        invocation: The call.
        runs: The runs of this process.
        timeout: Default time limit of a call in seconds; None for no limit.
    """

    __slots__ = ("_began", "_invocation", "_limit", "_runs", "_timeout")

    def __init__(self, invocation: Invocation, runs: RunHistory, timeout: float | None) -> None:
        self._invocation = invocation
        self._runs = runs
        self._timeout = timeout
        self._limit: float | None = None
        self._began: float | None = None

    @property
    def payer(self) -> str:
        """The payer for values that the call stores, see `payer_of`."""
        return self._invocation.payer

    def begin(self) -> None:
        """Start the time limit and the run, once."""
        if self._began is not None:
            return
        invocation = self._invocation
        own = invocation.workflow.timeout if invocation.workflow is not None else None
        limits = (invocation.timeout, self._timeout if own is None else own)
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        self._began = _now()
        invocation.begin_run(self._runs)

    async def until(self, future: asyncio.Future[None], seconds: float | None = None) -> None:
        """Wait for a future, at most for ``seconds``.

        Raises:
            RunCancelled: The run was cancelled.
            WorkflowTimeout: The time limit has passed.
        """
        left, run = self.left(), self._invocation.run
        run.attach(future)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(min((each for each in (left, seconds) if each is not None), default=None)):
                    await future
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not run.cancel_requested or (task is not None and task.cancelling()):
                raise
            error = RunCancelled("The run was cancelled.", run_id=run.id)
            run.publish(WORKFLOW_CANCELLED, error=error)
            raise error from None
        self.left()

    def left(self) -> float | None:
        """Return the remaining seconds, None for no limit.

        Raises:
            WorkflowTimeout: The time limit has passed.
        """
        if self._limit is None or self._began is None:
            return None
        left = self._began + self._limit - _now()
        if left <= 0:
            raise WorkflowTimeout(f"The workflow did not finish within {self._limit:g} seconds.")
        return left

    def hand_over(self) -> None:
        """Limit the work that begins now to the rest of the caller's own limit.

        Raises:
            WorkflowTimeout: The time limit has passed.
        """
        if self._began is not None and self._invocation.timeout is not None:
            self._invocation.timeout = self.left()

    def end(self, result: Result) -> None:
        """Complete the run with another run's result, if it has begun or can be followed."""
        run = self._invocation.run
        if self._began is not None:
            run.publish(WORKFLOW_COMPLETED, result=result, duration=_now() - self._began)
        elif run.keeps_result:
            self._invocation.begin_run(self._runs)  # it completes when the pipeline returns the result


def _now() -> float:
    return asyncio.get_running_loop().time()
