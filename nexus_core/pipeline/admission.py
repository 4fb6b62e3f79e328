"""`Admission`: how many invocations are worked on at once, and none once the platform stops."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nexus_core.errors import Overloaded
from nexus_core.pipeline.stage import Call, Stage
from nexus_core.runs.context import current_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.runs.run import Run
    from nexus_core.types.result import Result

RETRY_AFTER = 1.0
"""Seconds after which a refused caller may try again."""


class Admission:
    """Takes at most ``limit`` invocations at once and refuses the rest at once: there is no queue.

    A run whose caller has been answered (at its time limit, say) keeps its place while its code goes on all the same.
    """

    stage = Stage.ADMIT

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls = self._aside = 0
        self._returning: deque[asyncio.Future[None]] = deque()
        self._lingering: set[Run] = set()
        self._closed = False
        self._idle = asyncio.Event()

    @property
    def in_use(self) -> int:
        """Places taken: by calls that are not answered yet, and by runs that outlived theirs."""
        return self._calls + len(self._lingering)

    @property
    def is_open(self) -> bool:
        """Whether calls are taken."""
        return not self._closed

    def close(self) -> None:
        """Refuse everything from now on but what admitted runs call themselves: they are to finish."""
        self._closed = True
        self._note_idle()

    async def idle(self) -> None:
        """Wait until every call has been answered. Call it after `close`."""
        await self._idle.wait()

    def lingering(self) -> list[asyncio.Future[object]]:
        """Return the work that goes on although its caller has been answered: tasks, and the futures of threads."""
        return [work for run in self._lingering for work in run.unfinished()]

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        """Take the invocation, or refuse it at once."""
        if self._closed and not _is_part_of_a_run():
            raise Overloaded("The server is shutting down.", retry_after=RETRY_AFTER)
        if self._calls + len(self._lingering) >= self._limit:
            raise Overloaded(
                f"The maximum of running workflows is reached: max_concurrent_workflows ({self._limit}).",
                retry_after=RETRY_AFTER,
            )
        self._calls += 1
        try:
            return await call_next(invocation)
        finally:
            self._calls -= 1
            self._linger(invocation.run)
            if self._closed:
                self._note_idle()

    @asynccontextmanager
    async def aside(self, run: Run) -> AsyncIterator[None]:
        """Return an admitted call's place while the call waits, and take one again at the end.

        At the end it waits until there is one, in front of new calls.

        Args:
            run: The call's run, which may be cancelled meanwhile.
        """
        self._calls -= 1
        self._let_return()
        self._aside += 1
        try:
            yield
            if self.in_use >= self._limit:
                turn = asyncio.get_running_loop().create_future()
                self._returning.append(turn)
                run.attach(turn)
                try:
                    await turn  # it takes over the place of the call that ends
                except BaseException:
                    if turn.done() and not turn.cancelled():
                        self._calls -= 1
                    raise
            else:
                self._calls += 1
        except BaseException:
            self._calls += 1  # it ends now, and gives it back
            raise
        finally:
            self._aside -= 1
            if self._closed:  # its caller may have been answered before: a thread hears late that its run is cancelled
                self._note_idle()

    def _let_return(self) -> None:
        """Give free places to calls that have been aside."""
        while self._returning and self.in_use < self._limit:
            turn = self._returning.popleft()
            if not turn.done():
                turn.set_result(None)
                self._calls += 1

    def _note_idle(self) -> None:
        if not (self._calls or self._aside):
            self._idle.set()

    def _linger(self, run: Run) -> None:
        """Keep a run's place until nothing of it goes on. A task that ends may have noted its thread meanwhile."""
        if unfinished := run.unfinished():
            self._lingering.add(run)
            unfinished[0].add_done_callback(lambda _: self._linger(run))
        else:
            self._lingering.discard(run)
            if self._returning:
                self._let_return()


def _is_part_of_a_run() -> bool:
    run = current_run.get()
    return run is not None and not run.ended
