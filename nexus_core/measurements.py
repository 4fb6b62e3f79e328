"""Measurements: numbers that the core and plugins keep anyway, read only when somebody looks at them.

A counter costs the code that keeps it one addition. What exports measurements (a metrics plugin) asks
`Nexus.measurements` for all of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from nexus_core.plugins.discovery import PluginStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nexus_core.app import Nexus


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number, or one for each of a few things.

    Attributes:
        name: In the form of Prometheus: the unit at its end, ``_total`` at a counter's.
        kind: ``counter`` where it only grows, ``gauge`` where it may fall.
        description: What it tells, in a sentence.
        labels: What tells its numbers apart.
        read: Returns them now, each with its labels' values. Called on any thread; it must not block. What callers send
            is never a label's value: each would be kept for ever.
    """

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    labels: tuple[str, ...]
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]

    @classmethod
    def of(
        cls, name: str, kind: Literal["counter", "gauge"], description: str, number: Callable[[], float]
    ) -> Measurement:
        """Return a measurement of one number without labels."""
        return cls(name, kind, description, (), lambda: (((), number()),))


class Collector(Protocol):
    """What takes numbers from user code. Given by ``nexus_register_metrics_collectors``."""

    def increment_counter(self, name: str, labels: Mapping[str, str] | None = None, value: float = 1) -> None:
        """Add to a counter."""

    def record_histogram(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Add an observation to a histogram."""

    def set_gauge(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Set a gauge."""


def own_measurements(nexus: Nexus) -> Sequence[Measurement]:
    """Return what the core itself can tell of a platform."""
    events, runs, plugins, options = nexus.events, nexus.runs, nexus.plugins, nexus.options
    return [
        Measurement(
            "nexus_event_handler_backlog", "gauge", "Events that wait for a handler.", ("handler",),
            lambda: _summed((name, waiting) for name, waiting, _ in events.handlers()),
        ),
        Measurement(
            "nexus_event_handler_dropped_total", "counter", "Events that a handler was too slow for.", ("handler",),
            lambda: _summed((name, dropped) for name, _, dropped in events.handlers()),
        ),
        Measurement.of("nexus_followers", "gauge", "Callers who follow events.", lambda: nexus.event_log.followed_by),
        Measurement.of("nexus_places_in_use", "gauge", "Places for calls that are taken.", lambda: nexus.places_in_use),
        Measurement.of(
            "nexus_places", "gauge", "Places for calls that there are.", lambda: options.max_concurrent_workflows
        ),
        Measurement.of(
            "nexus_threads", "gauge", "Threads for sync code.",
            lambda: nexus.threads.count + nexus.workflow_threads.count,
        ),
        Measurement.of(
            "nexus_threads_waiting", "gauge", "Calls that wait for a thread.", lambda: nexus.workflow_threads.waiting
        ),
        Measurement("nexus_runs_kept", "gauge", "Runs that are remembered.", ("status",), runs.counts),
        Measurement.of("nexus_workflows", "gauge", "Registered workflows.", lambda: len(nexus.workflows.names())),
        Measurement(
            "nexus_plugin_load_seconds", "gauge", "How long the import of a plugin took.", ("plugin",),
            lambda: [((each.name,), each.import_ms / 1000) for each in plugins.records if each.import_ms is not None],
        ),
        Measurement(
            "nexus_plugin_active", "gauge", "Whether a plugin that is not disabled is active.", ("plugin",),
            lambda: [
                ((each.name,), float(each.status is PluginStatus.ACTIVE))
                for each in plugins.records if each.status is not PluginStatus.DISABLED
            ],
        ),
    ]  # fmt: skip


def _summed(numbers: Iterable[tuple[str, float]]) -> Iterable[tuple[tuple[str, ...], float]]:
    """Return one number for each name: several things may have the same."""
    sums: Counter[str] = Counter()
    for name, number in numbers:
        sums[name] += number  # type: ignore[assignment]
    return [((name,), number) for name, number in sums.items()]
