"""The measurements of the core itself."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nexus_core.plugins.discovery import PluginStatus
from nexus_core.types.measurement import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nexus_core.app.state import PlatformState


def own_measurements(state: PlatformState) -> Sequence[Measurement]:
    """Return what the core itself can tell of a platform."""
    events, runs, plugins, options = state.events, state.runs, state.plugins, state.options
    return [
        Measurement(
            "nexus_event_handler_backlog", "gauge", "Events that wait for an event handler.", ("handler",),
            lambda: _summed((name, waiting) for name, waiting, _ in events.handlers()),
        ),
        Measurement(
            "nexus_event_handler_dropped_total", "counter", "Events dropped because an event handler was too slow.",
            ("handler",),
            lambda: _summed((name, dropped) for name, _, dropped in events.handlers()),
        ),
        Measurement.of("nexus_followers", "gauge", "Callers that follow events.", lambda: state.event_log.followed_by),
        Measurement.of(
            "nexus_workflows_running", "gauge", "Runs in progress.", lambda: running_workflows(state)
        ),
        Measurement.of(
            "nexus_workflows_limit", "gauge", "Maximum number of concurrent runs.",
            lambda: options.max_concurrent_workflows,
        ),
        Measurement.of(
            "nexus_threads", "gauge", "Threads for synchronous code.",
            lambda: state.threads.count + state.workflow_threads.count,
        ),
        Measurement.of(
            "nexus_threads_waiting", "gauge", "Calls that wait for a thread of workflow_threads.",
            lambda: state.workflow_threads.waiting,
        ),
        Measurement("nexus_runs_kept", "gauge", "Runs in the history: running or ended.", ("status",), runs.counts),
        Measurement.of("nexus_workflows", "gauge", "Registered workflows.", lambda: len(state.workflows.names())),
        Measurement(
            "nexus_plugin_load_seconds", "gauge", "Seconds that the import of a plugin took.", ("plugin",),
            lambda: [((each.name,), each.import_ms / 1000) for each in plugins.records if each.import_ms is not None],
        ),
        Measurement(
            "nexus_plugin_active", "gauge", "Whether a plugin that is not disabled is active: 1 or 0.", ("plugin",),
            lambda: [
                ((each.name,), float(each.status is PluginStatus.ACTIVE))
                for each in plugins.records if each.status is not PluginStatus.DISABLED
            ],
        ),
    ]  # fmt: skip


def running_workflows(state: PlatformState) -> int:
    """Return how many workflows run now."""
    return state.running.admission.in_use if state.running else 0


def _summed(numbers: Iterable[tuple[str, float]]) -> Iterable[tuple[tuple[str, ...], float]]:
    """Return one number for each name: several things may have the same."""
    sums: Counter[str] = Counter()
    for name, number in numbers:
        sums[name] += number  # type: ignore[assignment]
    return [((name,), number) for name, number in sums.items()]
