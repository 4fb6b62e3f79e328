from __future__ import annotations

import asyncio

import pytest

from nexus_core import ConfigurationError, Nexus, NotFound
from nexus_core.testing import eventually


def hourly(ran, gate=None, **arguments):
    """Declare a workflow that is due each hour and notes its runs."""

    def declare(nexus):
        @nexus.schedule("0 * * * *", params={"n": 2}, **arguments)
        @nexus.workflow
        async def tidy(n: int = 1) -> int:
            ran.append(n)
            if gate is not None:
                await gate.wait()
            return n

    return declare


async def test_each_time_is_started_once(start, at):
    ran = []
    _, scheduler = await start(hourly(ran))
    for moment in ("11:59:59", "12:00:00", "12:00:01", "11:30:00", "12:00:30", "13:00:00"):
        await at(scheduler, f"2026-05-01 {moment}")
        await eventually(lambda: not scheduler._tasks)
    await eventually(lambda: ran == [2, 2])
    (schedule,) = scheduler.schedules
    await eventually(lambda: schedule.counts == {"started": 2})


async def test_skip_counts(start, at):
    ran, gate = [], asyncio.Event()
    _, scheduler = await start(hourly(ran, gate))
    for hour in (12, 13, 14):
        await at(scheduler, f"2026-05-01 {hour}:00:00")
    (schedule,) = scheduler.schedules
    await eventually(lambda: len(ran) == 1)
    await eventually(lambda: schedule.counts == {"started": 1, "skipped": 2})
    gate.set()
    await eventually(lambda: not scheduler._tasks)
    await at(scheduler, "2026-05-01 15:00:00")
    await eventually(lambda: len(ran) == 2)


async def test_queue(start, at):
    ran, gate = [], asyncio.Event()
    _, scheduler = await start(hourly(ran, gate, overlap="queue"))
    for hour in (12, 13, 14):
        await at(scheduler, f"2026-05-01 {hour}:00:00")
    await eventually(lambda: len(ran) == 1)
    gate.set()
    for second in (1, 2, 3):
        await eventually(lambda: not scheduler._tasks)
        await at(scheduler, f"2026-05-01 14:00:0{second}")
    await eventually(lambda: len(ran) == 3)


async def test_cancel(start, at):
    ran, gate = [], asyncio.Event()
    nexus, scheduler = await start(hourly(ran, gate, overlap="cancel"))
    await at(scheduler, "2026-05-01 12:00:00")
    await at(scheduler, "2026-05-01 13:00:00")
    await eventually(lambda: len(ran) == 2)
    await eventually(lambda: [str(run.status) for run in nexus.runs.find()] == ["running", "cancelled"], 30)
    gate.set()


async def test_pause_and_run_now(start, at):
    ran = []
    _, scheduler = await start(hourly(ran, name="hourly"))
    assert (await scheduler.set_paused("hourly", True))["paused"]
    await at(scheduler, "2026-05-01 12:00:00")
    assert ran == []
    assert (await scheduler.run_now("hourly"))["run_id"]
    await eventually(lambda: ran == [2])
    await at(scheduler, "2026-05-01 15:30:00")
    assert not (await scheduler.set_paused("hourly", False))["paused"]
    await at(scheduler, "2026-05-01 15:31:00")
    assert ran == [2]
    await at(scheduler, "2026-05-01 16:00:00")
    await eventually(lambda: ran == [2, 2])
    with pytest.raises(NotFound, match="no schedule 'daily'; schedules: hourly"):
        await scheduler.set_paused("daily", True)


async def test_a_run_that_can_not_be_started_is_shown(start, at):
    def declare(nexus):
        nexus.register("tidy", lambda: None)
        nexus.schedule("0 * * * *", workflow="tidy")

    nexus, scheduler = await start(declare)
    nexus.unregister("tidy")
    await at(scheduler, "2026-05-01 12:00:00")
    (schedule,) = scheduler.schedules
    await eventually(lambda: schedule.counts == {"failed": 1})
    await eventually(lambda: not scheduler._tasks)
    assert "no workflow" in (await scheduler.described(schedule))["last"]["error"]


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda nexus: nexus.schedule("0 6 * *", workflow="tidy"), 'The schedule "tidy": .* five fields'),
        (lambda nexus: nexus.schedule("0 6 * * *", workflow="tdy"), "tidy"),
        (lambda nexus: nexus.schedule("0 6 * * *", workflow="tidy", params={"n": "x"}), "params do not fit"),
        (lambda nexus: nexus.schedule("0 6 * * *", workflow="tidy", overlap="wait"), "must be skip, queue, cancel"),
        (lambda nexus: nexus.schedule("0 6 * * *")(print), "print is not a workflow"),
        (lambda nexus: [nexus.schedule("0 6 * * *", workflow="tidy") for _ in range(2)], 'two schedules "tidy"'),
    ],
)  # fmt: skip
async def test_wrong_declarations(start, declare, message):
    def both(nexus):
        @nexus.workflow
        def tidy(n: int = 1) -> int:
            return n

        declare(nexus)

    with pytest.raises(ConfigurationError, match=message):
        await start(both)


async def test_without_the_plugin_the_start_is_refused():
    nexus = Nexus(discover=False)
    nexus.register("tidy", lambda: None)
    nexus.schedule("0 6 * * *", workflow="tidy")
    with pytest.raises(ConfigurationError, match=r'nexus\.schedule needs the plugin "schedules"'):
        async with nexus:
            pass
