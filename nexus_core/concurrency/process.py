"""`run`: `asyncio.run`, with an end that is certain.

`asyncio.run` waits without limit for tasks that catch their cancellation, and for threads of the loop's executor: one
such workflow, and a process that was told to stop never does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.concurrency.threads import ENDS_PROCESS, DaemonExecutor, call_on
from nexus_core.concurrency.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger(__name__)

T = TypeVar("T")

CANCEL_SECONDS = 10.0
"""How long what `run_until_signal` runs may go on once a signal has cancelled it."""

END_SECONDS = 2.0
"""How long tasks that are cancelled at the end are waited for, and as long again threads of ``asyncio.to_thread``."""


def run(main: Coroutine[Any, Any, T], *, owns_signals: bool = False) -> T:
    """Run a coroutine in a new event loop and return its value. What it leaves behind can't delay the end.

    Args:
        main: The coroutine.
        owns_signals: Whether a `Watchdog` takes the signals. Then nothing but ``main`` ends the loop: a task that
            raises ``SystemExit`` or ``KeyboardInterrupt`` ends alone.
    """
    runner = asyncio.Runner(loop_factory=new_event_loop)
    try:
        return _run_on(runner.get_loop(), main) if owns_signals else runner.run(main)
    finally:
        if runner.run(_all_tasks_ended()):
            runner.close()


def _run_on(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except ENDS_PROCESS as exc:
            if task.done():
                raise
            log.error("A task on the event loop raised %r; the process continues", exc, exc_info=exc)


def run_until_signal(main: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine as `run` does, until it ends or a signal cancels it: no error either way.

    A `Watchdog` sees to the end: a second signal is not waited for, nor what is blocked.
    """
    stop = _Cancellation()
    with Watchdog(stop.make, CANCEL_SECONDS) as watchdog:
        run(_until_signal(main, stop, watchdog), owns_signals=True)


class _Cancellation:
    """Cancels a task when a signal comes, which may be before there is one."""

    def __init__(self) -> None:
        self.is_made = False
        self.task: asyncio.Future[object] | None = None

    def make(self) -> None:
        self.is_made = True
        if self.task is not None:
            call_on(self.task.get_loop(), self.task.cancel)


async def _until_signal(main: Coroutine[Any, Any, object], stop: _Cancellation, watchdog: Watchdog) -> None:
    watchdog.watch(asyncio.get_running_loop())
    stop.task = task = asyncio.ensure_future(main)
    if stop.is_made:
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose threads can't keep the process from ending."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(DaemonExecutor("asyncio", END_SECONDS))
    return loop


async def _all_tasks_ended() -> bool:
    """Cancel every other task. Returns whether they ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    left: set[asyncio.Task[Any]] = set()
    if tasks:
        ended, left = await asyncio.wait(tasks, timeout=END_SECONDS)
        for task in ended:
            if not task.cancelled() and (exc := task.exception()) is not None:
                log.error("%s raised an exception during its cancellation at shutdown", task.get_name(), exc_info=exc)
    if left:
        log.warning("%d tasks continue after their cancellation and are abandoned", len(left))
    return not left
