"""Event loops that outlive the call: one in a separate thread, and handing a call over to another one's thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.errors import RunCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Future

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


def ended() -> RunCancelled:
    """Return the error for a call whose event loop has ended under it."""
    return RunCancelled(
        "The event loop that the platform was started on has ended before the call: keep it running (async with nexus, "
        "nexus.serving()), or let threads call nexus.invoke_sync() only."
    )


@contextmanager
def _handed(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], awaited: Callable[[Future[Any]], Any]
) -> Iterator[tuple[Any, Callable[[], bool]]]:
    """Give work to an event loop. Gives its future, and whether to wait on: that raises where the loop has ended."""
    try:
        future = awaited(asyncio.run_coroutine_threadsafe(work, loop))
    except RuntimeError:  # it is closed
        work.close()
        raise ended() from None
    pauses = 0

    def is_pending() -> bool:
        nonlocal pauses
        is_done = future.done()
        pauses = 0 if loop.is_running() else pauses + 1
        if future.cancelled() if is_done else loop.is_closed() or pauses > PAUSE_LOOKS:
            raise ended()
        return not is_done

    try:
        yield future, is_pending
    finally:
        if not loop.is_closed():
            future.cancel()
        elif inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
            work.close()  # it never began


async def hand_over(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Value]) -> Value:
    """Let another event loop do something, and wait for it on this one. Cancelling the wait cancels the work.

    Raises:
        RunCancelled: That event loop ends first.
    """
    with _handed(loop, work, asyncio.wrap_future) as (future, is_pending):
        while is_pending():
            await asyncio.wait({future}, timeout=LOOK_SECONDS)
        return future.result()  # type: ignore[no-any-return]


def wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Value]) -> Value:
    """Let an event loop do something, and wait for it in this thread, which has no event loop. See `hand_over`.

    Raises:
        RunCancelled: That event loop ends first.
    """
    with _handed(loop, work, lambda future: future) as (future, is_pending):
        while is_pending():
            wait([future], LOOK_SECONDS)
        return future.result()  # type: ignore[no-any-return]
