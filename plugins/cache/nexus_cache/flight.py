"""`Flight`: one call at work, and the equal calls that wait for what comes of it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nexus_core import NexusError, Result, RunCancelled, WorkflowTimeout
from nexus_core.errors import error_from_problem

if TYPE_CHECKING:
    from nexus_cache.waiting import Wait
    from nexus_core import Invocation

led_here: ContextVar[tuple[str, ...]] = ContextVar("nexus_cache_led_here", default=())
"""The keys whose work the running code is part of: a workflow that calls itself must not wait for itself."""


class Flight:
    """What followers get: the leader's result or its failure, or nothing when it left without either."""

    __slots__ = ("_problem", "_result", "_waiters", "has_ended")

    def __init__(self) -> None:
        self.has_ended = False
        self._result: Result | None = None
        self._problem: dict[str, Any] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def land(self, result: Result) -> None:
        """Give followers the leader's result. It is marked as cached: they did not run."""
        if not result.cached:
            result = Result(result.json, result.run_id, result.duration, cached=True)
        self._end(result, None)

    def crash(self, error: NexusError) -> None:
        """Give followers the error that the leader's run ended with."""
        self._end(None, error.problem())

    def abandon(self) -> None:
        """Let a follower take over, if the flight has not ended yet."""
        self._end(None, None)

    def _end(self, result: Result | None, problem: dict[str, Any] | None) -> None:
        if self.has_ended:
            return
        self.has_ended, self._result, self._problem = True, result, problem
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def follow(self, wait: Wait) -> Result | None:
        """Wait for the end and return the result, or None when there is none and somebody has to take over.

        Raises:
            NexusError: What the leader's run ended with.
            WorkflowTimeout: It takes longer than this caller waits.
            RunCancelled: Somebody has cancelled the waiting run.
        """
        if not self.has_ended:
            await self._end_of(wait)
        if self._problem is not None:
            raise error_from_problem(self._problem)
        return self._result

    async def _end_of(self, wait: Wait) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            wait.begin()
            await wait.until(waiter)
        finally:
            self._waiters.remove(waiter)


def concerns_followers(error: NexusError, leader: Invocation) -> bool:
    """Whether what a leader ended with is true for its followers too: its run has failed.

    What the policies refused before, its own cancellation and its own shorter time limit are not.
    """
    if error.run_id is None or isinstance(error, RunCancelled):
        return False
    return not (isinstance(error, WorkflowTimeout) and leader.timeout is not None)
