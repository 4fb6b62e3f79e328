"""Steps: named parts of a run's work, which are recorded and may be repeated when they fail."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
import math
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from nexus_core import jsontext
from nexus_core.concurrency.threads import call_on, is_async, is_current_loop
from nexus_core.errors import NexusError, RunCancelled, StepTimeout
from nexus_core.runs.step_log import StepLog
from nexus_core.text import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.runs.record import RunStep
    from nexus_core.runs.run import Run

log = logging.getLogger(__name__)

NAME_CHARACTERS = 128
ERROR_CHARACTERS = 500

BACKOFF_SECONDS = 0.5
"""Pause before the first repetition, where the workflow does not say."""

LONGEST_PAUSE = 60.0
"""The longest pause between two attempts; a longer ``backoff`` stays as it is."""

STEPS_STORED = 10_000
"""How many steps of a run are written to a run store."""

CANCEL_SECONDS = 0.2
"""Seconds between two checks, in a thread that waits, whether its run was cancelled."""

COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"


class StepRunner:
    """What the steps of all runs of a platform need.

    Args:
        threads: Where sync functions run.
        store: Writes a step of a run to the run store, on the event loop; None without one.
    """

    def __init__(self, threads: DaemonThreads, store: Callable[[str, RunStep], None] | None = None) -> None:
        self.threads = threads
        self._store = store
        self._lock = threading.Lock()

    def log_of(self, run: Run) -> StepLog:
        """Return the steps of a run; they are made with its first one."""
        if run.steps is None:
            with self._lock:
                if run.steps is None:
                    run.steps = StepLog()
        return run.steps

    def write(self, run: Run, step: RunStep, loop: asyncio.AbstractEventLoop) -> None:
        """Write a step to the run store, from any thread."""
        if self._store is None:
            return
        if step.number <= STEPS_STORED:
            call_on(loop, self._store, run.id, step)
        elif step.number == STEPS_STORED + 1 and step.outcome is None:
            log.warning(
                "Run %s of %s has more than %d steps: the others are not stored", run.id, run.workflow, STEPS_STORED,
                extra={"run_id": run.id},
            )  # fmt: skip


class Steps:
    """Calls the steps of one run.

    Args:
        runner: What the platform has for steps.
        run: The run.
        loop: The platform's event loop.
        deadline: The value of `time.monotonic` at which the run times out, or None.
    """

    __slots__ = ("_deadline", "_loop", "_run", "_runner")

    def __init__(self, runner: StepRunner, run: Run, loop: asyncio.AbstractEventLoop, deadline: float | None) -> None:
        self._runner, self._run, self._loop, self._deadline = runner, run, loop, deadline

    def recording(self, name: str, attempt: int = 1) -> Recording:
        """Return what records its block as one attempt at a step."""
        return Recording(self._runner, self._run, self._loop, name, attempt)

    async def call(self, plan: StepPlan, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Call a function as a step; see `Context.step`."""
        if not is_current_loop(self._loop):  # one of the workflow's own, in a thread
            work = asyncio.run_coroutine_threadsafe(self.call(plan, function, args), self._loop)
            return await asyncio.wrap_future(work)
        attempt = 1
        while True:
            try:
                with self.recording(plan.name, attempt) as step:
                    if plan.timeout is None:
                        return await self._attempt(step, function, args)
                    return await self._attempt_in_time(step, function, args, plan)
            except Exception as exc:
                pause = self._pause(plan, attempt, exc)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
            attempt += 1

    async def _attempt_in_time(
        self, step: Recording, function: Callable[..., Any], args: tuple[Any, ...], plan: StepPlan
    ) -> Any:
        try:
            async with asyncio.timeout(plan.timeout) as limit:
                return await self._attempt(step, function, args)
        except TimeoutError:
            if not limit.expired():
                raise  # the function's own
            raise StepTimeout(f'The step "{plan.name}" did not finish within {plan.timeout:g} seconds.') from None

    async def _attempt(self, step: Recording, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if is_async(function):
            value = await function(*args)
        else:
            outlives = self._run.track_background_work
            value, size = await self._runner.threads.run(outlives, _measured, function, args)
            if not inspect.isawaitable(value):
                step.size = size
                return value
            value = await value
        step.size = jsontext.size_of(value)
        return value

    def call_in_thread(self, plan: StepPlan, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Call a function as a step, in the calling thread where that is possible; see `Context.step_sync`."""
        if plan.timeout is not None or is_async(function):
            self._refuse_cancelled()
            return self.wait(self.call(plan, function, args))
        attempt = 1
        while True:
            self._refuse_cancelled()
            try:
                with self.recording(plan.name, attempt) as step:
                    value, step.size = _measured(function, args)
                    if inspect.isawaitable(value):
                        value = self.wait(_awaited(value))
                        step.size = jsontext.size_of(value)
                    return value
            except Exception as exc:
                pause = self._pause(plan, attempt, exc)
                if pause is None:
                    raise
            self.sleep(pause)
            attempt += 1

    def sleep(self, seconds: float) -> None:
        """Sleep in a thread; no longer than until the run is cancelled."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._refuse_cancelled()
            time.sleep(min(left, CANCEL_SECONDS))

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns on the platform's event loop. It is cancelled with the run."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise RunCancelled("The platform has stopped.") from None
        cleans_up = self._is_cancelled
        while not concurrent.futures.wait((future,), CANCEL_SECONDS).done:
            if self._loop.is_closed():
                raise RunCancelled("The platform has stopped.")
            if self._is_cancelled and not cleans_up:
                future.cancel()
                self._refuse_cancelled()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RunCancelled("The run was cancelled.", run_id=self._run.id) from None

    @property
    def _is_cancelled(self) -> bool:
        return self._run.cancel_requested or self._run.ended or self._run.is_left

    def _refuse_cancelled(self) -> None:
        """Tell a thread once that its run was cancelled: what it does then is clean up.

        Raises:
            RunCancelled: The run was cancelled, or has ended.
        """
        if self._is_cancelled and self._runner.log_of(self._run).tell_cancelled():
            raise RunCancelled("The run was cancelled.", run_id=self._run.id)

    def _pause(self, plan: StepPlan, attempt: int, exc: Exception) -> float | None:
        """Return the seconds before the next attempt; None where there is none."""
        if attempt > plan.retries or isinstance(exc, RunCancelled) or self._is_cancelled:
            return None
        pause = plan.pause(attempt)
        return pause if self._deadline is None or pause < self._deadline - time.monotonic() else None


class StepPlan:
    """How a step is called.

    Args:
        name: Its name.
        retries: How often it is called again when it fails.
        backoff: Seconds before the first repetition, twice as many before each further one.
        timeout: Seconds that an attempt may take, or None.

    Raises:
        TypeError, ValueError: An argument is invalid.
    """

    __slots__ = ("_backoff", "name", "retries", "timeout")

    def __init__(self, name: str, function: Any, retries: int, backoff: float, timeout: float | None) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a text, not {type(name).__name__}: context.step(name, function, *arguments)")
        if not name or len(name) > NAME_CHARACTERS or not name.isprintable() or name.isspace():
            raise ValueError(f"name must have 1 to {NAME_CHARACTERS} printable characters, not {printable(repr(name))}")
        if not callable(function):
            raise TypeError(
                f"fn must be a function, not {type(function).__name__}: pass it uncalled, then its arguments"
            )
        if retries.__class__ is not int or retries < 0:
            raise ValueError(f"retries must be a whole number, 0 or more, not {printable(repr(retries))}")
        check_seconds("backoff", backoff)
        if timeout is not None:
            check_seconds("timeout", timeout)
            if not timeout:
                raise ValueError("timeout must be above 0; None is no limit")
        self.name, self.retries, self._backoff, self.timeout = name, retries, backoff, timeout

    def pause(self, attempt: int) -> float:
        """Return the seconds before the next attempt: half of them to all, at random, so that callers spread."""
        longest = min(self._backoff * 2.0 ** min(attempt - 1, 60), max(LONGEST_PAUSE, self._backoff))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  (it guards nothing)


class Recording:
    """Records its block as one attempt at a step; see `Context.recording`.

    Attributes:
        size: Bytes of the result as JSON text, if the block measures it.
    """

    __slots__ = ("_attempt", "_loop", "_name", "_run", "_runner", "_step", "size")

    def __init__(self, runner: StepRunner, run: Run, loop: asyncio.AbstractEventLoop, name: str, attempt: int) -> None:
        self._runner, self._run, self._loop, self._name, self._attempt = runner, run, loop, name, attempt
        self.size = 0

    def __enter__(self) -> Self:
        """Note that it begins."""
        self._step = self._runner.log_of(self._run).begin(self._name, self._attempt)
        if self._step is not None:
            self._runner.write(self._run, self._step, self._loop)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        """Note how it ended."""
        outcome, error = COMPLETED, None
        if exc is not None:
            if isinstance(exc, (asyncio.CancelledError, RunCancelled, GeneratorExit)):
                outcome = CANCELLED
            else:
                outcome, error = FAILED, self._reason(exc)
        if self._step is None:  # the run had ended before it began
            return
        ended = self._runner.log_of(self._run).end(self._step, outcome, self.size, error)
        if ended is not None:
            self._runner.write(self._run, ended, self._loop)

    def _reason(self, exc: BaseException) -> str:
        """Return what the caller may learn about a failure; the log gets the rest."""
        if isinstance(exc, NexusError):
            return printable(exc.message, ERROR_CHARACTERS)
        log.warning(
            'The step "%s" of run %s of %s failed at attempt %d: %s', self._name, self._run.id, self._run.workflow,
            self._attempt, one_line(exc), extra={"run_id": self._run.id, "workflow": self._run.workflow},
        )  # fmt: skip
        return "The step failed; the server's log has the reason under the run's id."


def check_seconds(name: str, value: Any) -> None:
    """Refuse what is no number of seconds.

    Raises:
        TypeError: It is no number.
        ValueError: It is below 0, or not finite.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of seconds, 0 or more, not {value}")


def refuse_loop(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """Refuse a call that would block the event loop.

    Raises:
        RuntimeError: This is the event loop's thread.
    """
    if is_current_loop(loop):
        raise RuntimeError(f"context.{name}_sync is for sync workflows: in async code, use await context.{name}")


def _measured(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, int]:
    """Call a function and measure what it returns: in its thread, since large values take their time."""
    value = function(*args)
    return value, 0 if inspect.isawaitable(value) else jsontext.size_of(value)


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
