"""`Wait`: a call that waits for another call's result, no longer than its own time limit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexus_core import WorkflowTimeout

if TYPE_CHECKING:
    from nexus_core import Invocation
    from nexus_core.runs import RunStore


class Wait:
    """How long one call may wait. It costs nothing before `begin`.

    Args:
        invocation: The call.
        runs: Where runs are kept.
        timeout: Seconds that a call may take unless its workflow or its caller says otherwise; None for no limit.
    """

    __slots__ = ("_deadline", "_has_begun", "_invocation", "_limit", "_runs", "_timeout")

    def __init__(self, invocation: Invocation, runs: RunStore, timeout: float | None) -> None:
        self._invocation = invocation
        self._runs = runs
        self._timeout = timeout
        self._limit: float | None = None
        self._deadline: float | None = None
        self._has_begun = False

    def begin(self) -> None:
        """Start the clock. A run that its caller follows begins now, as if it did the work itself."""
        if self._has_begun:
            return
        self._has_begun = True
        invocation = self._invocation
        own = invocation.workflow.timeout if invocation.workflow is not None else None
        limits = (invocation.timeout, self._timeout if own is None else own)
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        if self._limit is not None:
            self._deadline = asyncio.get_running_loop().time() + self._limit
        self.show()

    def show(self) -> None:
        """Let the run begin, if somebody may follow it: it can be found and cancelled then."""
        if self._invocation.run.keeps_result:
            self._runs.begin(self._invocation.run, self._invocation)

    def left(self) -> float | None:
        """Return the seconds that are left, None for no limit.

        Raises:
            WorkflowTimeout: There are none.
        """
        if self._deadline is None:
            return None
        left = self._deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise WorkflowTimeout(f"The workflow did not finish within {self._limit:g} seconds.")
        return left

    def end(self) -> None:
        """Leave what is left of the caller's limit to the run that begins now.

        Raises:
            WorkflowTimeout: Nothing is.
        """
        if self._has_begun and self._invocation.timeout is not None:
            self._invocation.timeout = self.left()
