"""Numbers for alerts: which checks are healthy, and how long they take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.types.measurement import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_health.monitor import Monitor


def measurements(monitor: Monitor) -> list[Measurement]:
    """Return the measurements of what a monitor knows."""
    return [
        Measurement.of("nexus_ready", "gauge", "Whether callers should be sent here.", lambda: float(monitor.is_ready)),
        Measurement(
            "nexus_health_check_healthy", "gauge", "Whether a check, or one of its services, is healthy.", ("check",),
            lambda: _healthy(monitor),
        ),
        Measurement(
            "nexus_health_check_seconds", "gauge", "How long a check took last.", ("check",),
            lambda: [((each.name,), each.seconds) for each in monitor.outcomes],
        ),
    ]  # fmt: skip


def _healthy(monitor: Monitor) -> Iterator[tuple[tuple[str, ...], float]]:
    for each in monitor.outcomes:
        yield (each.name,), float(each.verdict.is_healthy)
        for name, part in each.verdict.parts.items():
            yield (f"{each.name}.{name}",), float(part.is_healthy)
