"""What foreign code may do to those who call it through a `GuardedCaller`: fail their call, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from nexus_core.concurrency.guarded import GuardedCaller, OwnTaskLimit, TimeLimitPassed, TooManyCalls, within
from nexus_core.concurrency.threads import DaemonThreads
from nexus_core.concurrency.timers import Timers


@pytest.fixture
def threads():
    return DaemonThreads("test-guarded")


class Stubborn:
    """Goes on although it is cancelled."""

    def __init__(self):
        self.gate = asyncio.Event()

    async def __call__(self):
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("late")


async def test_async_functions_that_do_not_stop_count_until_they_end(threads, caplog):
    caller, stubborn = GuardedCaller(threads, 0.01, 2, waits=False, counts_async=True), Stubborn()
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            with pytest.raises(TimeLimitPassed, match=r"within 0\.01 s"):
                await caller.call(stubborn)
        with pytest.raises(TooManyCalls):
            await caller.call(stubborn)
        stubborn.gate.set()
        async with asyncio.timeout(10):
            while caplog.text.count("left behind after its time limit raised") < 2:
                await asyncio.sleep(0)
    with pytest.raises(ValueError, match="late"):
        await caller.call(stubborn, seconds=10)


async def test_sync_functions_that_hang_count_and_async_ones_do_not(threads):
    caller, gate = GuardedCaller(threads, 0.01, 1, waits=False), threading.Event()

    async def answer():
        return 7

    with pytest.raises(TimeLimitPassed):
        await caller.call(gate.wait, 30)
    with pytest.raises(TooManyCalls):
        await caller.call(gate.wait, 30)
    assert await caller.call(answer, seconds=10) == 7
    gate.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await caller.call(lambda: 8, seconds=10) == 8
                break
            except TooManyCalls:
                await asyncio.sleep(0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
async def test_what_would_end_more_than_the_call_is_an_error_of_the_call(threads, error):
    def sync_function():
        raise error

    async def async_function():
        raise error

    caller = GuardedCaller(threads, 10, 1, waits=True)
    for function in (sync_function, async_function):
        with pytest.raises(RuntimeError, match=type(error).__name__):
            await caller.call(function)


async def test_what_cancels_itself_is_told_from_a_caller_that_leaves():
    async def cancels_itself():
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="cancelled itself"):
        await within(10, cancels_itself())
    task = asyncio.create_task(within(10, asyncio.sleep(10)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_limit_in_ones_own_task_leaves_no_cancellation_behind():
    task, timers = asyncio.current_task(), Timers()
    with pytest.raises(TimeLimitPassed, match=r"within 0\.01 s"), OwnTaskLimit(timers, 0.01):
        await asyncio.sleep(10)
    assert task.cancelling() == 0
    with OwnTaskLimit(timers, 0.01):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            pass  # it goes on in spite of it
    assert (task.cancelling(), timers.pending) == (0, 0)


async def test_a_limit_in_ones_own_task_is_told_from_other_errors():
    timers = Timers()
    with pytest.raises(TimeoutError, match="its own"), OwnTaskLimit(timers, 10):
        raise TimeoutError("its own")

    async def waits():
        with OwnTaskLimit(timers, 10):
            await asyncio.sleep(10)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert timers.pending == 0


async def test_a_limit_that_is_paused_or_over_does_not_pass():
    timers = Timers()
    with OwnTaskLimit(timers, None):
        assert timers.pending == 0
    limit = OwnTaskLimit(timers, 0.01)
    with limit:
        limit.pause()
        assert timers.pending == 0
        limit.resume()
        assert timers.pending == 1
    limit.resume()
    assert timers.pending == 0
