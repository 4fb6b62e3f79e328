"""`run`: `asyncio.run`, with an end that is certain.

`asyncio.run` waits without limit for tasks that catch their cancellation, and for threads of the loop's executor: one
such workflow, and a process that was told to stop never does.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.threads import DaemonExecutor

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

END_SECONDS = 2.0
"""How long tasks that are cancelled at the end are waited for, and as long again threads of ``asyncio.to_thread``."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own and return its value. What it leaves behind can't delay the end."""
    runner = asyncio.Runner(loop_factory=new_event_loop)
    try:
        return runner.run(main)
    finally:
        if runner.run(_all_tasks_ended()):
            runner.close()


def run_until_signal(main: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine as `run` does, until it ends or a signal of `STOP_SIGNALS` cancels it: no error either way."""
    run(_until_signal(main))


async def _until_signal(main: Coroutine[Any, Any, object]) -> None:
    task = asyncio.ensure_future(main)
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
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
                log.error("%s failed when it was cancelled at the end", task.get_name(), exc_info=exc)
    if left:
        log.warning("Ending with %d tasks that go on although they were cancelled", len(left))
    return not left
