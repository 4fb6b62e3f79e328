"""Options of the plugin ``schedules``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nexus_core import PluginSettings

SCHEDULE_STARTED = "schedule.started"
SCHEDULE_SKIPPED = "schedule.skipped"
SCHEDULE_MISSED = "schedule.missed"
SCHEDULE_FAILED = "schedule.failed"


class SchedulesSettings(PluginSettings):
    """Whether this process starts scheduled runs, and where the state of schedules is kept."""

    provides: ClassVar[dict[str, str | None]] = {"schedules": None}
    event_types: ClassVar[dict[str, str]] = {
        SCHEDULE_STARTED: "A schedule has started a run. `data`: `schedule`, and `due`, the time it was due.",
        SCHEDULE_SKIPPED: "A scheduled time was skipped, since the run before goes on. `data`: `schedule`, `count`.",
        SCHEDULE_MISSED: "Scheduled times were missed, and are not made up for. `data`: `schedule`, `count`.",
        SCHEDULE_FAILED: "A scheduled run could not be started. `data`: `schedule`, `due`, `reason`.",
    }

    run_schedules: bool = Field(True, description="Whether this process starts scheduled runs.")
    schedules_store: str | None = Field(
        None,
        description="Store of the schedules' state: memory, sqlite, redis, ... Default: the one that store names.",
    )
