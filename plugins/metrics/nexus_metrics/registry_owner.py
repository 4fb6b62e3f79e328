"""`RegistryOwner`: how the metrics of a platform are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexus_core import Platform
    from nexus_metrics.registry import MetricsRegistry


class RegistryOwner:
    """A plugin that has the metrics of a platform.

    Attributes:
        registry: The metrics; None if they are off.
    """

    registry: MetricsRegistry | None = None


def registry_of(platform: Platform) -> MetricsRegistry | None:
    """Return the metrics of a platform; None if they are off or the plugin is not active."""
    return next((owner.registry for owner in platform.plugins.instances(RegistryOwner)), None)
