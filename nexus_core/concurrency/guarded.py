"""Calling code that is not the platform's own: it may block, hang, or ignore its cancellation."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.threads import call_on, is_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from nexus_core.concurrency.threads import DaemonThreads

log = logging.getLogger(__name__)


class GuardedCaller:
    """Calls functions under a time limit: async ones on the running event loop, sync ones in a thread.

    Args:
        threads: The threads for sync functions.
        seconds: Time limit for each call.
        limit: How many sync functions may run at a time, so that hanging ones do not use up threads.
        waits: Whether a call waits for one of them to return; else it is refused.
    """

    def __init__(self, threads: DaemonThreads, seconds: float, limit: int, *, waits: bool) -> None:
        self._threads = threads
        self._free = asyncio.Semaphore(limit)
        self._waits = waits
        self.seconds = seconds

    async def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        seconds: float | None = None,
        context: Context | None = None,
    ) -> Any:
        """Call a function and return its result, or raise its exception.

        Args:
            function: The function.
            *arguments: Its arguments.
            seconds: Time limit if it is not the usual one.
            context: The context variables that it sees; those of the caller where it is None.

        Raises:
            TimeLimitPassed: It did not return in time. It may go on.
            RuntimeError: Too many sync functions have not returned.
        """
        return await within(seconds or self.seconds, self._run(function, arguments), context=context)

    async def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if is_async(function):
            return await self._threads.call(function, *arguments)
        if self._free.locked() and not self._waits:
            raise RuntimeError("too many of its calls have not returned, so it is not called")
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        return await self._threads.call(self._in_thread, loop, function, arguments)  # it releases: nothing between

    def _in_thread(
        self, loop: asyncio.AbstractEventLoop, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        try:
            return function(*arguments)
        finally:
            call_on(loop, self._free.release)


class TimeLimitPassed(TimeoutError):
    """A call did not end within its time limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it did not end within {seconds:g} s")
        self.seconds = seconds


async def within(
    seconds: float, work: Awaitable[Any], *, cancel_seconds: float = 0.0, context: Context | None = None
) -> Any:
    """Await something in a separate task: code that does not stop when it is cancelled is left behind.

    Args:
        seconds: The time limit.
        work: What to await.
        cancel_seconds: How long it is waited for once it is cancelled.
        context: The context variables that it sees.

    Raises:
        TimeLimitPassed: It did not end in time.
        RuntimeError: It raised `asyncio.CancelledError` although it was not cancelled.
    """
    task: asyncio.Future[Any] = asyncio.get_running_loop().create_task(_awaited(work), context=context)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeLimitPassed(seconds)
        if task.cancelled():
            raise RuntimeError("it cancelled itself")
        return task.result()
    finally:
        if not task.done():
            task.add_done_callback(_retrieve)
            task.cancel()
            if cancel_seconds:
                await asyncio.wait({task}, timeout=cancel_seconds)


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def _retrieve(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.debug("What was left behind after its time limit raised", exc_info=task.exception())


def call_within(seconds: float, function: Callable[[], Any]) -> Any:
    """Call a function in a daemon thread, wait for it in this one and return its value. A hanging one is left behind.

    Raises:
        TimeoutError: It did not return in time.
        RuntimeError: It raised what would end the process, such as ``SystemExit``.
    """
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.extend((True, function()))
        except BaseException as exc:
            outcome.extend((False, exc))

    thread = threading.Thread(target=call, name="nexus-plugin-import", daemon=True)
    thread.start()
    thread.join(seconds)
    if len(outcome) < 2:
        raise TimeoutError(f"it did not end within {seconds:g} s")
    succeeded, value = outcome
    if succeeded:
        return value
    if isinstance(value, Exception):
        raise value
    raise RuntimeError(f"it raised {value!r}") from value
