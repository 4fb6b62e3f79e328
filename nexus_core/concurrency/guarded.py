"""Calling code that is not the platform's own: it may block, hang, or ignore its cancellation."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.threads import is_async
from nexus_core.concurrency.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.concurrency.timers import Timers

log = logging.getLogger(__name__)


class GuardedCaller:
    """Calls functions under a time limit: async ones on the running event loop, sync ones in a thread.

    Args:
        threads: The threads for sync functions.
        seconds: Time limit for each call.
        limit: How many sync functions may run at a time, so that hanging ones do not use up threads.
        waits: Whether a call waits for one of them to return; else it is refused.
        counts_async: Whether async functions count too.
    """

    def __init__(
        self, threads: DaemonThreads, seconds: float, limit: int, *, waits: bool, counts_async: bool = False
    ) -> None:
        self._threads = threads
        self._turns = Turns(limit)
        self._waits = waits
        self._counts_async = counts_async
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
            TooManyCalls: Too many functions have not returned.
        """
        return await within(seconds or self.seconds, self._run(function, arguments), context=context)

    async def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if (has_no_thread := is_async(function)) and not self._counts_async:
            return await self._threads.call(function, *arguments)
        if not self._turns.take_now():
            if not self._waits:
                raise TooManyCalls
            await self._turns.take()
        if not has_no_thread:
            return await self._threads.call(self._in_thread, function, arguments)  # gives the turn back itself
        try:
            return await self._threads.call(function, *arguments)
        finally:
            self._turns.give_back()

    def _in_thread(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        try:
            return function(*arguments)
        finally:
            self._turns.give_back()


class TimeLimitPassed(TimeoutError):
    """A call did not end within its time limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it did not end within {seconds:g} s")
        self.seconds = seconds


class TooManyCalls(RuntimeError):
    """A function was not called."""

    def __init__(self) -> None:
        super().__init__("too many of its calls have not returned, so it is not called")


class OwnTaskLimit:
    """A time limit for what must run in its caller's own task, which is cancelled when the limit passes.

    It costs less than `asyncio.timeout` (see `Timers`), and can be paused. Leaving it raises `TimeLimitPassed`.

    Args:
        timers: Where time limits are kept.
        seconds: The limit; None for none.
    """

    __slots__ = ("_is_cancelled", "_is_over", "_seconds", "_task", "_timer", "_timers")

    def __init__(self, timers: Timers, seconds: float | None) -> None:
        self._timers = timers
        self._seconds = seconds
        self._timer: int | None = None
        self._is_cancelled = self._is_over = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self.resume()

    def resume(self) -> None:
        """Begin again, with the full time."""
        if self._seconds is not None and not self._is_over:
            self._timer = self._timers.schedule(self._seconds, self._expire)

    def pause(self) -> None:
        """Let the time stand still until `resume`."""
        if self._timer is not None:
            self._timers.cancel(self._timer)
            self._timer = None

    def _expire(self) -> None:
        if self._task is not None:
            self._is_cancelled = self._task.cancel()

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        self._is_over = True  # what is left behind may resume it later, when the task does something else
        self.pause()
        if self._is_cancelled and self._task is not None and self._seconds is not None:
            others = self._task.uncancel()  # what comes after must not find it, whether the task has obeyed or not
            if not others and isinstance(exc, asyncio.CancelledError):
                raise TimeLimitPassed(self._seconds) from None


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
        RuntimeError: It raised what is no `Exception`, such as `asyncio.CancelledError` although it was not cancelled.
    """
    task: asyncio.Future[Any] = asyncio.get_running_loop().create_task(_awaited(work), context=context)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeLimitPassed(seconds)
        if task.cancelled():
            raise RuntimeError("it cancelled itself")
        if (exc := task.exception()) is not None and not isinstance(exc, Exception):
            raise RuntimeError(f"it raised {exc!r}") from exc
        return task.result()
    finally:
        if not task.done():
            task.add_done_callback(_log_late_failure)
            task.cancel()
            if cancel_seconds:
                await asyncio.wait({task}, timeout=cancel_seconds)


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def late_failure_log(write: Callable[..., None], message: str) -> Callable[[asyncio.Future[Any]], None]:
    """Return a callback for tasks that are no longer awaited, which logs what they raise."""

    def ended(task: asyncio.Future[Any]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            write(message, exc_info=exc)

    return ended


_log_late_failure = late_failure_log(log.debug, "What was left behind after its time limit raised")


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
