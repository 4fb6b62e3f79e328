"""Metrics of health checks, for alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.types.measurement import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_health.monitor import HealthMonitor


def measurements(monitor: HealthMonitor) -> list[Measurement]:
    """Return the measurements of a monitor."""
    return [
        Measurement.of(
            "nexus_ready", "gauge", "Whether the platform is ready to take calls: 1 or 0.",
            lambda: float(monitor.is_ready),
        ),
        Measurement(
            "nexus_health_check_healthy", "gauge",
            "Whether a health check, or one of its services, is healthy: 1 or 0.", ("check",),
            lambda: _healthy(monitor),
        ),
        Measurement(
            "nexus_health_check_seconds", "gauge", "Duration of the last run of a health check.", ("check",),
            lambda: [((each.name,), each.seconds) for each in monitor.results],
        ),
    ]  # fmt: skip


def _healthy(monitor: HealthMonitor) -> Iterator[tuple[tuple[str, ...], float]]:
    for each in monitor.results:
        yield (each.name,), float(each.verdict.is_healthy)
        for name, part in each.verdict.parts.items():
            yield (f"{each.name}.{name}",), float(part.is_healthy)
