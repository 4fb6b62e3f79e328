"""Threads for sync workflows: daemonic, so that one that never returns can't keep the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

IDLE_SECONDS = 30.0
"""How long a thread without work is kept."""

ENDS_PROCESS = (SystemExit, KeyboardInterrupt)
"""What asyncio passes on out of the event loop: raised by foreign code, it must end no more than its call."""


class DaemonThreads:
    """Runs each call at once in a separate thread, reusing idle ones.

    It has no queue and no limit: the pipeline admits no more work than ``max_concurrent_workflows``.

    Attributes:
        count: How many threads there are, at work or idle.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.count = 0
        self._idle: list[_PoolThread] = []
        self._reserve: _PoolThread | None = None
        self._lock = threading.Lock()

    def keep_reserve(self) -> None:
        """Start a thread for calls that come when no other can be started: at the end of the interpreter, for one."""
        with self._lock:
            if self._reserve is None or not self._reserve.is_alive():
                with suppress(RuntimeError):  # there are none left already
                    self._reserve = _PoolThread(self, self._name)

    async def run(
        self,
        outlives: Callable[[asyncio.Future[Any]], None] | None,
        function: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a function in a thread, with the caller's context variables, and return its value.

        Args:
            outlives: Called with the thread's future when the wait is cancelled, if given: the thread itself goes on.
            function: What to call.
            *args: Its arguments.
            **kwargs: Its arguments by name.
        """
        return await self._finished(self._given(function, args, kwargs), outlives)

    def _given(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _ThreadCall:
        """Give a call to a thread. Where no more can be started, this raises, and nothing has changed."""
        work = _ThreadCall()
        try:
            worker = self._take()
        except RuntimeError:
            if self._reserve is None or not self._reserve.is_alive():
                raise
            worker = self._reserve
        worker.put((work, contextvars.copy_context().run, function, args, kwargs))
        return work

    async def _finished(self, work: _ThreadCall, outlives: Callable[[asyncio.Future[Any]], None] | None) -> Any:
        done = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            work.is_abandoned = True
            if outlives is not None:
                outlives(done)
            raise

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a user's function so that it can't block the event loop: async ones here, sync ones in a thread."""
        try:
            if is_async(function):
                return await function(*args, **kwargs)
            outcome = await self.run(None, function, *args, **kwargs)
            return await outcome if inspect.isawaitable(outcome) else outcome
        except ENDS_PROCESS as exc:
            raise RuntimeError(f"{function!r} raised {exc!r}") from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError(f"{function!r} raised {exc!r}") from exc  # nobody has cancelled it: it gave up itself

    def start(self, function: Callable[[], object]) -> None:
        """Call a function in a thread without waiting for it."""
        self._take().put((_ThreadCall(), contextvars.Context().run, function, (), {}))

    def _take(self) -> _PoolThread:
        with self._lock:
            while self._idle:
                if (worker := self._idle.pop()).is_alive():
                    return worker
                self.count -= 1  # its thread is in the process that this one was forked from
            worker = _PoolThread(self, self._name)
            self.count += 1
            return worker

    def give_back(self, worker: _PoolThread) -> None:
        """Note that a worker has nothing to do."""
        with self._lock:
            if worker is not self._reserve:
                self._idle.append(worker)

    def rest(self) -> None:
        """Let the threads that have nothing to do end now; others end when they have had nothing to do for a while."""
        with self._lock:
            idle, self._idle = self._idle, []
            self.count -= len(idle)
        for worker in idle:
            worker.put(None)

    def retire(self, worker: _PoolThread) -> bool:
        """Take a worker out of use. Returns False when it has just been given work."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            self.count -= 1
            return True


class DaemonExecutor(ThreadPoolExecutor):
    """An event loop's executor. Its threads can't keep the process from ending: its base's would be waited for.

    Args:
        name: The threads' name.
        end_seconds: How long `shutdown` waits for calls.
    """

    def __init__(self, name: str, end_seconds: float) -> None:
        super().__init__()  # event loops take no other class; the base's own threads start in its `submit`
        self._daemons = DaemonThreads(name)
        self._end_seconds = end_seconds
        self._limit = self._free = min(32, (os.cpu_count() or 1) + 4)  # as the base has it
        self._calls: deque[tuple[Any, ...]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a thread, as soon as one is free."""
        future = _ThreadCall()
        with self._changed:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls.append((future, contextvars.Context().run, function, args, kwargs))
            if not self._free:
                return future
            self._free -= 1
        try:
            self._daemons.start(self._work)
        except RuntimeError:  # the machine has no more threads
            future.cancel()
            with self._changed:
                self._free += 1
                self._changed.notify_all()
            raise
        return future

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    self._free += 1
                    self._changed.notify_all()
                    return
                call = self._calls.popleft()
            if call[0].set_running_or_notify_cancel():
                _perform(*call)
            del call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and wait for those there are, at most ``end_seconds``."""
        with self._changed:
            self._closed = True
            while cancel_futures and self._calls:
                self._calls.popleft()[0].cancel()
            if wait:
                self._changed.wait_for(lambda: self._free == self._limit, self._end_seconds)


def is_current_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the caller is on an event loop's thread, called by that loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Call a function on an event loop's thread: at once on that thread, soon from another, never once it is closed."""
    if is_current_loop(loop):
        function(*args)
        return
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(function, *args)


def overridden(instance: object, base: type, name: str) -> Callable[..., Any] | None:
    """Return an object's method; None if it has none of that name, or the one of the base class."""
    method: Callable[..., Any] | None = getattr(instance, name, None)
    return None if getattr(method, "__func__", None) is getattr(base, name) else method


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling an object gives a coroutine or an async generator.

    A sync decorator around an async function is sync: it may block, or run its own event loop.
    """
    target = getattr(function, "func", function)  # functools.partial
    if not inspect.isroutine(target):
        target = getattr(target, "__call__", target)  # noqa: B004  (an instance with an async __call__)
    return inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)


class _ThreadCall(Future[Any]):
    """A call in a thread. What an abandoned one raises is nobody's: an event loop that ends would complain about it."""

    is_abandoned = False


class _PoolThread:
    def __init__(self, pool: DaemonThreads, name: str) -> None:
        self._pool = pool
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.put = self._calls.put
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.is_alive = thread.is_alive
        thread.start()

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                if self._pool.retire(self):
                    return
                continue
            if call is None:
                return
            _perform(*call)
            del call
            self._pool.give_back(self)


def _perform(work: _ThreadCall, call: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        value = call(function, *args, **kwargs)
    except (StopIteration, *ENDS_PROCESS) as exc:  # a future can't carry the first
        work.set_exception(RuntimeError(f"the function raised {exc!r}"))
    except BaseException as exc:
        if work.is_abandoned:
            log.debug("%r raised after its caller had stopped waiting", function, exc_info=exc)
            work.set_result(None)
        else:
            work.set_exception(exc)
    else:
        work.set_result(value)
