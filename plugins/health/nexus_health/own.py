"""What the core itself can be asked: its store, its event loop, its places, its plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.plugins.discovery import PluginStatus
from nexus_core.types.health import HealthCheck

if TYPE_CHECKING:
    from nexus_core.app.nexus import Nexus

LAG_SECONDS = 1.0
"""How late the event loop may be."""

UNWANTED = (PluginStatus.FAILED, PluginStatus.INCOMPATIBLE, PluginStatus.DUPLICATE)
"""What a plugin should not be."""


class Lag:
    """How late the event loop was with what it had to do, at worst since somebody asked."""

    def __init__(self) -> None:
        self._worst = 0.0

    def note(self, seconds: float) -> None:
        """Take note of a delay."""
        self._worst = max(self._worst, seconds)

    def check(self) -> dict[str, Any]:
        """Look whether the delays were small.

        Raises:
            RuntimeError: They were not.
        """
        worst, self._worst = self._worst, 0.0
        if worst > LAG_SECONDS:
            raise RuntimeError(
                f"the event loop was blocked for {worst:.1f} s: something in it does not wait, but works"
            )
        return {"lag_ms": round(worst * 1000, 1)}


def own_checks(nexus: Nexus, lag: Lag) -> list[HealthCheck]:
    """Return the checks of a platform that is started.

    Only the store decides about readiness. To send nobody to a process that has much to do sends its work to the
    others, until those have too much to do as well; a plugin that failed has failed in each process.
    """
    checks = [
        HealthCheck("event_loop", lag.check, is_critical=False),
        HealthCheck("places", lambda: _places(nexus), is_critical=False),
        HealthCheck("plugins", lambda: _plugins(nexus), is_critical=False),
    ]
    store = nexus.store(None, "store")
    if hasattr(store, "ready"):
        checks.insert(0, HealthCheck("store", lambda: _ready(store)))
    return checks


async def _ready(store: Any) -> dict[str, str]:
    if not await store.ready():
        raise RuntimeError(getattr(store, "reason", None) or "it does not answer")
    return {"store": store.name}


def _places(nexus: Nexus) -> dict[str, int]:
    taken, all_places = nexus.places_in_use, nexus.options.max_concurrent_workflows
    if taken >= all_places:
        raise RuntimeError(f"all {all_places} places are taken (max_concurrent_workflows): calls are refused")
    return {"in_use": taken, "places": all_places}


def failed_plugins(nexus: Nexus) -> dict[str, str]:
    """Return the plugins that are installed, wanted and not active, and why."""
    return {each.name: each.reason for each in nexus.plugins.records if each.status in UNWANTED}


def _plugins(nexus: Nexus) -> dict[str, int]:
    if failed := failed_plugins(nexus):
        raise RuntimeError(f"not active: {', '.join(failed)}; nexus plugins check says why")
    return {"active": len(nexus.plugins.active())}
