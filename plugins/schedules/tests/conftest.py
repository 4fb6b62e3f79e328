"""Platforms whose schedules follow a clock that the tests set."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime

import nexus_schedules.plugin
import pytest
from nexus_schedules.scheduler import Scheduler

from nexus_core import Nexus
from nexus_core.testing import eventually


def instant(text: str) -> float:
    """Seconds since the epoch of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, text: str) -> None:
        self.set(text)

    def __call__(self) -> float:
        return self.now

    def set(self, text: str) -> None:
        self.now = instant(text)


class Plugin(nexus_schedules.plugin.SchedulesPlugin):
    """Looks only when a test says so."""

    clock: Clock

    async def startup(self) -> None:
        await super().startup()
        if self.scheduler is not None:
            self.scheduler._clock = self.clock


@pytest.fixture
def clock():
    return Clock("2026-05-01 11:59:30")


@pytest.fixture
async def start(clock):
    """A function that starts a platform with what a function declares, and returns it with its `Scheduler`."""
    async with AsyncExitStack() as stack:

        async def started(declare, *plugins, **options) -> tuple[Nexus, Scheduler]:
            made = []

            class Own(Plugin):
                def __init__(self, platform, settings):
                    super().__init__(platform, settings)
                    self.clock = clock
                    made.append(self)

            Own.__name__ = "SchedulesPlugin"
            nexus = Nexus(discover=False, plugins=[Own, *plugins], **{"run_schedules": True} | options)
            nexus.starts_schedules = False
            declare(nexus)
            await stack.enter_async_context(nexus)
            scheduler = made[-1].scheduler
            await scheduler.tick()
            return nexus, scheduler

        yield started


@pytest.fixture
def at(clock):
    """Set the clock, let schedules look, and wait until what they have started is counted."""

    async def move(scheduler, text):
        clock.set(text)
        await scheduler.tick()

        def is_settled():
            runs = scheduler._runs.values()
            return len(runs) == len(scheduler._tasks) and all(run._steps and not run.done for run in runs)

        await eventually(is_settled, 30)

    return move
