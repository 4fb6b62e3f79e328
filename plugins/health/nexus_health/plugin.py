"""The plugin ``health``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import Platform, Plugin
from nexus_health.monitor_owner import MonitorOwner
from nexus_health.settings import HealthSettings

if TYPE_CHECKING:
    from nexus_core import Channel, Command, Route
    from nexus_core.types.measurement import Measurement
    from nexus_health.monitored_check import CheckThreads


class HealthPlugin(MonitorOwner, Plugin[HealthSettings]):
    """Runs health checks, serves probes, and provides ``nexus doctor``."""

    def __init__(self, platform: Platform, settings: HealthSettings) -> None:
        super().__init__(platform, settings)
        self._threads: CheckThreads | None = None

    async def startup(self) -> None:
        """Start to run health checks.

        Raises:
            ConfigurationError: A health checker is not valid.
        """
        if self.settings.enable_health_checks:
            from nexus_health.monitor import HealthMonitor
            from nexus_health.monitored_check import CheckThreads

            self._threads = self._threads or CheckThreads()
            self.monitor = HealthMonitor(self.platform, self.settings, self._threads)
            self.monitor.start()

    async def shutdown(self) -> None:
        """Stop the health checks."""
        monitor, self.monitor = self.monitor, None
        if monitor is not None:
            await monitor.close()

    def nexus_register_routes(self) -> list[Route]:
        """Return ``/health`` on the main port and on that of the command line, for ``nexus doctor --connect``."""
        if self.monitor is None:
            return []
        from nexus_core import Route
        from nexus_health.routes import PATH, HealthRoutes

        routes = HealthRoutes(self.platform, self.monitor)
        return [Route(PATH, routes, None), Route(PATH, routes, "cli")]

    def nexus_register_channels(self) -> list[Channel]:
        """Return the port that answers probes independently of the event loop, if ``health_port`` is set."""
        if self.monitor is None or self.settings.health_port is None:
            return []
        from nexus_health.probe_channel import HealthChannel

        return [HealthChannel(self.platform.options.host, self.settings.health_port, self.monitor)]

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return the measurements of health checks."""
        if self.monitor is None:
            return []
        from nexus_health.measurements import measurements

        return measurements(self.monitor)

    @staticmethod
    def nexus_register_commands() -> list[Command]:
        """Return ``nexus doctor``, which also works where no platform can be loaded."""
        from nexus_health.command import commands

        return commands()
