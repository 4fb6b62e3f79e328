"""`InFlightCall`: a call that runs, and the equal calls that wait for its result (single-flight)."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nexus_core import NexusError, Result, RunCancelled, WorkflowTimeout
from nexus_core.errors import error_from_problem

if TYPE_CHECKING:
    from nexus_cache.lease_wait import LeaseWait
    from nexus_core import Invocation

keys_in_work: ContextVar[tuple[str, ...]] = ContextVar("nexus_cache_keys_in_work", default=())
"""Keys of the calls that the running code is part of: a workflow that calls itself must not wait for itself."""


class InFlightCall:
    """The first of several equal calls ("single-flight"): followers get its result or its error.

    If it ends with neither, one of the followers takes over.
    """

    __slots__ = ("_problem", "_result", "_waiters", "has_ended")

    def __init__(self) -> None:
        self.has_ended = False
        self._result: Result | None = None
        self._problem: dict[str, Any] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def complete(self, result: Result) -> None:
        """Pass the result to followers, marked as cached, since they did not run."""
        if not result.cached:
            result = Result(result.json, result.run_id, result.duration, cached=True)
        self._end(result, None)

    def fail(self, error: NexusError) -> None:
        """Pass the error of the leader's run to followers."""
        self._end(None, error.problem())

    def abandon(self) -> None:
        """Let a follower take over, if the call has not ended yet."""
        self._end(None, None)

    def _end(self, result: Result | None, problem: dict[str, Any] | None) -> None:
        if self.has_ended:
            return
        self.has_ended, self._result, self._problem = True, result, problem
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def follow(self, wait: LeaseWait) -> Result | None:
        """Wait for the end and return the result; None if a follower must take over.

        Raises:
            NexusError: The error of the leader's run.
            WorkflowTimeout: The time limit of the waiting call has passed.
            RunCancelled: The waiting run was cancelled.
        """
        if not self.has_ended:
            await self._end_of(wait)
        if self._problem is not None:
            raise error_from_problem(self._problem)
        return self._result

    async def _end_of(self, wait: LeaseWait) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            wait.begin()
            await wait.until(waiter)
        finally:
            self._waiters.remove(waiter)


def concerns_followers(error: NexusError, leader: Invocation) -> bool:
    """Whether a leader's error applies to its followers too, because its run has failed.

    A refusal before the run, the leader's cancellation and its own shorter time limit do not.
    """
    if error.run_id is None or isinstance(error, RunCancelled):
        return False
    return not (isinstance(error, WorkflowTimeout) and leader.timeout is not None)
