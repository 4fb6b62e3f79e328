"""Built-in health checks: store, event loop, concurrency limit, plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.plugins.discovery import PluginStatus
from nexus_core.types.health import HealthCheck

if TYPE_CHECKING:
    from nexus_core import Platform

LAG_SECONDS = 1.0
"""Maximum delay of the event loop."""

UNWANTED = (PluginStatus.FAILED, PluginStatus.INCOMPATIBLE, PluginStatus.DUPLICATE)
"""The statuses of plugins that are not active although they are enabled."""


class EventLoopLag:
    """The longest delay of the event loop since the last check."""

    def __init__(self) -> None:
        self._worst = 0.0

    def note(self, seconds: float) -> None:
        """Record a delay."""
        self._worst = max(self._worst, seconds)

    def check(self) -> dict[str, Any]:
        """Check the longest delay.

        Raises:
            RuntimeError: It exceeds `LAG_SECONDS`.
        """
        worst, self._worst = self._worst, 0.0
        if worst > LAG_SECONDS:
            raise RuntimeError(f"the event loop was blocked for {worst:.1f} s: async code blocks it")
        return {"lag_ms": round(worst * 1000, 1)}


def builtin_checks(platform: Platform, lag: EventLoopLag) -> list[HealthCheck]:
    """Return the checks of a started platform.

    Only the store affects readiness. A busy process that is taken out of service would move its load to the others,
    until they are overloaded as well; and a plugin that failed has failed in every process.
    """
    checks = [
        HealthCheck("event_loop", lag.check, is_critical=False),
        HealthCheck("places", lambda: _places(platform), is_critical=False),
        HealthCheck("plugins", lambda: _plugins(platform), is_critical=False),
    ]
    store = platform.store(None, "store")
    if hasattr(store, "ready"):
        checks.insert(0, HealthCheck("store", lambda: _ready(store)))
    return checks


async def _ready(store: Any) -> dict[str, str]:
    if not await store.ready():
        raise RuntimeError(getattr(store, "reason", None) or "no answer")
    return {"store": store.name}


def _places(platform: Platform) -> dict[str, int]:
    running, limit = platform.places_in_use, platform.options.max_concurrent_workflows
    if running >= limit:
        raise RuntimeError(f"{limit} workflows are running (max_concurrent_workflows): calls are refused")
    return {"in_use": running, "places": limit}


def failed_plugins(platform: Platform) -> dict[str, str]:
    """Return the plugins that are enabled but not active, with the reasons."""
    return {each.name: each.reason for each in platform.plugins.records if each.status in UNWANTED}


def _plugins(platform: Platform) -> dict[str, int]:
    if failed := failed_plugins(platform):
        raise RuntimeError(f"not active: {', '.join(failed)}; run nexus plugins check for the reasons")
    return {"active": len(platform.plugins.active())}
