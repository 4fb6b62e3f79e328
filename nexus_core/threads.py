"""Threads for sync workflows: daemonic, so that one that never returns can't keep the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_SECONDS = 30.0
"""How long a thread without work is kept."""

ENDS_PROCESS = (SystemExit, KeyboardInterrupt)
"""What asyncio passes on out of the event loop: raised by someone else's code, it must end no more than its call."""


class DaemonThreads:
    """Runs each call at once in a thread of its own, reusing idle ones.

    It has no queue and no limit: the pipeline admits no more work than ``max_concurrent_workflows``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    async def run(
        self,
        outlives: Callable[[asyncio.Future[Any]], None],
        function: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a function in a thread, with the caller's context variables, and return its value.

        Args:
            outlives: Called with the thread's future when the wait is cancelled: the thread itself goes on.
            function: What to call.
            *args: Its arguments.
            **kwargs: Its arguments by name.
        """
        call = contextvars.copy_context().run
        work: Future[Any] = Future()
        self._take().put((work, call, function, args, kwargs))
        done = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            outlives(done)
            raise

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a user's function so that it can't block the event loop: async ones here, sync ones in a thread."""
        try:
            if is_async(function):
                return await function(*args, **kwargs)
            outcome = await self.run(_ignore, function, *args, **kwargs)
            return await outcome if inspect.isawaitable(outcome) else outcome
        except ENDS_PROCESS as exc:
            raise RuntimeError(f"{function!r} raised {exc!r}") from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError(f"{function!r} raised {exc!r}") from exc  # nobody has cancelled it: it gave up itself

    def _take(self) -> _Worker:
        with self._lock:
            return self._idle.pop() if self._idle else _Worker(self, self._name)

    def give_back(self, worker: _Worker) -> None:
        """Note that a worker has nothing to do."""
        with self._lock:
            self._idle.append(worker)

    def retire(self, worker: _Worker) -> bool:
        """Take a worker out of use. Returns False when it has just been given work."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling an object gives a coroutine or an async generator.

    A sync decorator around an async function is sync: it may block, or run an event loop of its own.
    """
    target = getattr(function, "func", function)  # functools.partial
    if not inspect.isroutine(target):
        target = getattr(target, "__call__", target)  # noqa: B004  (an instance with an async __call__)
    return inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)


def _ignore(_: asyncio.Future[Any]) -> None:
    """Nobody waits for the thread."""


class _Worker:
    def __init__(self, pool: DaemonThreads, name: str) -> None:
        self._pool = pool
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.put = self._calls.put
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                if self._pool.retire(self):
                    return
                continue
            _perform(*call)
            del call
            self._pool.give_back(self)


def _perform(work: Future[Any], call: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        value = call(function, *args, **kwargs)
    except (StopIteration, *ENDS_PROCESS) as exc:  # a future can't carry the first
        work.set_exception(RuntimeError(f"the function raised {exc!r}"))
    except BaseException as exc:
        work.set_exception(exc)
    else:
        work.set_result(value)
