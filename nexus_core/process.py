"""`run`: `asyncio.run`, with an end that is certain.

`asyncio.run` waits without limit for tasks that catch their cancellation, and for threads of the loop's executor: one
such workflow, and a process that was told to stop never does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.threads import DaemonExecutor

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger(__name__)

T = TypeVar("T")

END_SECONDS = 2.0
"""How long tasks that are cancelled at the end are waited for, and as long again threads of ``asyncio.to_thread``."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own and return its value. What it leaves behind can't delay the end."""
    runner = asyncio.Runner()
    try:
        runner.get_loop().set_default_executor(DaemonExecutor("asyncio", END_SECONDS))
        return runner.run(main)
    finally:
        if runner.run(_all_tasks_ended()):
            runner.close()


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
