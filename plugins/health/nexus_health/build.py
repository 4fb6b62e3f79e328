"""`Started`: what exists of the plugin while its platform is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_health.monitor import Monitor
from nexus_health.watched import CheckThreads

if TYPE_CHECKING:
    from nexus_core.app.nexus import Nexus
    from nexus_health.settings import HealthSettings


class Started:
    """Holds the monitor of a platform, from one start to its stop.

    Attributes:
        monitor: It; None while the platform is not started, or health checks are off.
    """

    def __init__(self) -> None:
        self.monitor: Monitor | None = None
        self._threads = CheckThreads()

    def begin(self, nexus: Nexus, settings: HealthSettings) -> Monitor:
        """Begin to look how the platform is.

        Raises:
            ConfigurationError: A health checker is none.
        """
        self.monitor = Monitor(nexus, settings, self._threads)
        self.monitor.start()
        return self.monitor

    async def end(self) -> None:
        """Stop looking."""
        monitor, self.monitor = self.monitor, None
        if monitor is not None:
            await monitor.close()
