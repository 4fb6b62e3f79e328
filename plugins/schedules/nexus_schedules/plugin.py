"""The plugin ``schedules``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import Plugin
from nexus_schedules.settings import SchedulesSettings

if TYPE_CHECKING:
    from nexus_core import Command, Platform, Route
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Measurement
    from nexus_schedules.scheduler import Scheduler


class SchedulesPlugin(Plugin[SchedulesSettings]):
    """Starts the runs of the application's schedules, and lets operators see, pause and start them."""

    def __init__(self, platform: Platform, settings: SchedulesSettings) -> None:
        super().__init__(platform, settings)
        self.scheduler: Scheduler | None = None

    async def startup(self) -> None:
        """Check the schedules, and begin.

        Raises:
            ConfigurationError: A schedule is wrong, or the store is unknown.
        """
        if not self.platform.schedules:
            return
        from nexus_schedules.planned import checked
        from nexus_schedules.scheduler import Scheduler

        store = self.platform.store(self.settings.schedules_store, "schedules_store")
        self.scheduler = Scheduler(self.platform, checked(self.platform), store)
        if self.settings.run_schedules and self.platform.starts_schedules:
            self.scheduler.begin()

    async def shutdown(self) -> None:
        """Start no more runs."""
        scheduler, self.scheduler = self.scheduler, None
        if scheduler is not None:
            await scheduler.close()

    def nexus_register_routes(self) -> list[Route]:
        """Return ``/api/schedules``, on the main port and on that of the command line."""
        if self.scheduler is None:
            return []
        from nexus_core import Route
        from nexus_schedules.routes import PATH, ScheduleRoutes

        routes = ScheduleRoutes(self.platform, self.scheduler)
        return [Route(PATH, routes), Route(PATH, routes, "cli")]

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return what became of the times of each schedule in this process."""
        from nexus_core.types.measurement import Measurement
        from nexus_schedules.scheduler import OUTCOMES

        def counts() -> list[tuple[tuple[str, str], float]]:
            schedules = () if self.scheduler is None else self.scheduler.schedules
            return [((each.name, what), float(each.counts[what])) for each in schedules for what in OUTCOMES]

        help_text = "Times of schedules, by outcome: started, skipped, missed or failed."
        return [Measurement("nexus_schedule_times_total", "counter", help_text, ("schedule", "outcome"), counts)]

    def nexus_register_health_checks(self) -> list[HealthCheck]:
        """Return the check that the last start of each schedule has succeeded."""
        if self.scheduler is None:
            return []
        from nexus_core.types.health import HealthCheck

        return [HealthCheck("schedules", self._health, is_critical=False)]

    def _health(self) -> dict[str, Any]:
        schedules = () if self.scheduler is None else self.scheduler.schedules
        failed = {each.name: each.error for each in schedules if each.error}
        return {"status": "unhealthy" if failed else "healthy", "failed": failed}

    def nexus_register_commands(self) -> list[Command]:
        """Return ``nexus schedules``."""
        from nexus_schedules.command import schedule_commands

        return [schedule_commands(self.platform, lambda: self.scheduler)]
