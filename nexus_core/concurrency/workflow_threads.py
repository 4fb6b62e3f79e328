"""`WorkflowThreads`: where sync code of workflows runs, in as many threads at once as the option says."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.threads import DaemonThreads
from nexus_core.concurrency.turns import Turns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_holds_thread: ContextVar[bool] = ContextVar("nexus_holds_thread", default=False)


class WorkflowThreads(DaemonThreads):
    """Threads of which at most ``limit`` are at work at once: more that compute would starve the event loop.

    Who comes later waits. A call that code makes in such a thread, and waits for there, does not: they would wait for
    each other.

    Args:
        name: The threads' name.
        limit: How many.
    """

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name)
        self._turns = Turns(limit)

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return self._turns.waiting

    async def run(
        self,
        outlives: Callable[[asyncio.Future[Any]], None] | None,
        function: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a function in a thread, once there is one; see `DaemonThreads.run`."""
        if _holds_thread.get():
            return await super().run(outlives, function, *args, **kwargs)
        if not self._turns.take_now():
            await self._turns.take()
        try:
            work = self._given(self._hold, (function, *args), kwargs)
        except BaseException:  # no thread will give it back
            self._turns.give_back()
            raise
        return await self._finished(work, outlives)

    def _hold(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, and give the turn back when it has ended: who waited for it may have left before."""
        _holds_thread.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            self._turns.give_back()
