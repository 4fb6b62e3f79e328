"""`MonitorOwner`: how the health of a platform is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexus_core import Platform
    from nexus_health.monitor import HealthMonitor


class MonitorOwner:
    """A plugin that monitors the health of a platform.

    Attributes:
        monitor: The monitor; None if the platform is not started, or health checks are off.
    """

    monitor: HealthMonitor | None = None


def monitor_of(platform: Platform) -> HealthMonitor | None:
    """Return the monitor of a platform; None if it is not started, or health checks are off."""
    return next((owner.monitor for owner in platform.plugins.instances(MonitorOwner)), None)
