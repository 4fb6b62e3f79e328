"""`SerialExecutor`: steps in order, and a thread that gets on while the event loop is busy."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from nexus_toolkit.serial_executor import SerialExecutor

SECONDS = 20.0


@pytest.fixture
async def executor():
    executor = SerialExecutor(lambda: sqlite3.connect(":memory:", check_same_thread=False), "test")
    yield executor
    await executor.close(SECONDS)


async def test_steps_are_done_in_order(executor):
    done = []
    await asyncio.gather(*(executor.run(lambda _, number=number: done.append(number), SECONDS) for number in range(20)))
    assert done == [*range(20)]


@pytest.mark.parametrize("lends_lock", [False, True])
async def test_a_step_returns_its_value_and_raises_its_error(executor, lends_lock):
    query = executor.run(lambda connection: connection.execute("SELECT 1").fetchone(), SECONDS, lends_lock=lends_lock)
    assert await query == (1,)
    with pytest.raises(sqlite3.OperationalError):
        await executor.run(lambda connection: connection.execute("nonsense"), SECONDS, lends_lock=lends_lock)


async def test_a_busy_event_loop_lets_a_step_get_on(executor):
    """Each query lets go of Python's lock and needs it again, which a loop that never rests hardly gives away."""

    def step(connection):
        return [connection.execute("SELECT ?", (number,)).fetchone() for number in range(5)]

    is_over = False

    async def spin():
        while not is_over:
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    for _ in range(20):
        assert len(await executor.run(step, SECONDS, lends_lock=True)) == 5
    is_over = True
    await spinning
