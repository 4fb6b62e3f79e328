"""Event loops that outlive the call: one in a separate thread, and handing a call over to another one's thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.errors import RunCancelled

if TYPE_CHECKING:
    from collections.abc import Coroutine

Value = TypeVar("Value")

LOOK_SECONDS = 0.5
"""How often a thread that waits for another event loop checks that it still runs."""

PAUSE_LOOKS = 10
"""How many looks in a row may find that it does not run: a program may run one event loop piece by piece."""


class OwnLoop:
    """An event loop in a daemon thread, for callers that have none which stays: threads, and `asyncio.run` of one call.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        runs = threading.Event()
        self.loop.call_soon(runs.set)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        runs.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            for task in (tasks := asyncio.all_tasks(self.loop)):
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    @property
    def is_alive(self) -> bool:
        """Whether it can be used: after a fork, the child has no such thread."""
        return self._thread.is_alive() and not self.loop.is_closed()

    def end(self) -> None:
        """End the thread soon; from any thread."""
        if self.is_alive:
            self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self, seconds: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(seconds)


class _Watch:
    """Notices that another event loop has ended, or does not run any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pauses = 0

    def check(self) -> None:
        """Look once.

        Raises:
            RunCancelled: It is not to be waited for.
        """
        self._pauses = 0 if self._loop.is_running() else self._pauses + 1
        if self._loop.is_closed() or self._pauses >= PAUSE_LOOKS:
            raise ended()


def ended() -> RunCancelled:
    """Return the error for a call whose event loop has ended under it."""
    return RunCancelled(
        "The event loop that the platform was started on has ended before the call: keep it running (async with nexus, "
        "nexus.serving()), or let threads call nexus.invoke_sync() only."
    )


async def hand_over(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Value]) -> Value:
    """Let another event loop do something, and wait for it on this one. Cancelling the wait cancels the work.

    Raises:
        RunCancelled: That event loop ends first.
    """
    waiting = asyncio.wrap_future(_given(loop, work))
    watch = _Watch(loop)
    try:
        while not (await asyncio.wait({waiting}, timeout=LOOK_SECONDS))[0]:
            watch.check()
        if waiting.cancelled():
            raise ended()
        return waiting.result()
    finally:
        _leave(loop, work, waiting)


def wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Value]) -> Value:
    """Let an event loop do something, and wait for it in this thread, which has no event loop. See `hand_over`.

    Raises:
        RunCancelled: That event loop ends first.
    """
    waiting = _given(loop, work)
    watch = _Watch(loop)
    try:
        while not concurrent.futures.wait([waiting], LOOK_SECONDS).done:
            watch.check()
        if waiting.cancelled():
            raise ended()
        return waiting.result()
    finally:
        _leave(loop, work, waiting)


def _leave(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any],
    waiting: asyncio.Future[Any] | concurrent.futures.Future[Any],
) -> None:  # fmt: skip
    """Cancel what is still waited for."""
    if not loop.is_closed():
        waiting.cancel()
    elif inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()  # it never began


def _given(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Value]) -> concurrent.futures.Future[Value]:
    try:
        return asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:  # it is closed
        work.close()
        raise ended() from None
