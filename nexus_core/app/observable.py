"""`Observable`: the part of `Nexus` with its state, its collectors and checkers, and the services of plugins."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from nexus_core.app.core_metrics import own_measurements, running_workflows
from nexus_core.app.hook_results import usable
from nexus_core.pipeline.authorization import missing_permissions
from nexus_core.plugins.discovery import PluginStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core.app.controller import LifecycleController
    from nexus_core.app.state import PlatformState, Running
    from nexus_core.options.settings import PluginSettings
    from nexus_core.server.channel import Channel
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Collector, Measurement
    from nexus_core.types.principal import Principal

log = logging.getLogger(__name__)


class Observable:
    """What can be seen of a platform from inside its process.

    Attributes:
        metrics_collectors: What `register_metrics_collector` was given.
        health_checkers: What `register_health_checker` was given.
    """

    metrics_collectors: list[Collector]
    health_checkers: list[object]
    _state: PlatformState
    _controller: LifecycleController
    _default_collectors: list[Collector] | None = None

    def __repr__(self) -> str:
        state = vars(self).get("_state")
        if state is None or "plugins" not in vars(state):
            return "<Nexus, not made yet>"
        records = state.plugins.records
        failed = [each.name for each in records if each.status is PluginStatus.FAILED]
        parts = [f"{len(state.workflows.names())} workflows", f"{len(state.plugins.active())} plugins"]
        if failed:
            parts.append(f"failed: {', '.join(failed)}")
        running = self._state.running
        channels = ", ".join(each.name for each in self.channels) or "no channel"
        status = "not started" if running is None else f"{'serving' if running.is_served else 'started'}: {channels}"
        return f"<Nexus: {'; '.join([*parts, status])}>"

    def register_metrics_collector(self, collector: Collector) -> None:
        """Let a collector count what happens: a ``MetricsCollector`` of the plugin "metrics". Takes effect at once."""
        self.metrics_collectors.append(collector)

    def register_health_checker(self, checker: object) -> None:
        """Let an object check what the platform needs: a ``HealthChecker`` of the plugin "health"."""
        self.health_checkers.append(checker)

    @property
    def metrics_collector(self) -> Collector:
        """The collector of metrics: the one registered last, else a plugin's own.

        Raises:
            ConfigurationError: Metrics are off; the message says what switches them on.
        """
        found = self.find_metrics_collector()
        return found if found is not None else self._state.services.get("metrics_collector")

    def find_metrics_collector(self) -> Collector | None:
        """Return the collector of metrics, or None where metrics are off."""
        if self.metrics_collectors:
            return self.metrics_collectors[-1]
        if self._default_collectors is None:
            found = usable(self._state.plugins, "nexus_register_metrics_collectors")
            self._default_collectors = [collector for _, collector in found]
        return self._default_collectors[-1] if self._default_collectors else None

    def service(self, name: str) -> Any:
        """Return what a plugin has for applications and workflows, such as ``db_pool``: the same object every time.

        It may be asked for before the start, and on any thread.

        Raises:
            ConfigurationError: There is no such service; the message says which plugin or option would give it.
        """
        return self._state.services.get(name)

    @property
    def auth_manager(self) -> Any:
        """The service ``auth_manager``, which authenticates and authorizes an application's own callers.

        Raises:
            ConfigurationError: Authentication is off; the message says what switches it on.
        """
        return self._state.services.get("auth_manager")

    @property
    def rate_limiter(self) -> Any:
        """The service ``rate_limiter``, which counts an application's own calls in its callers' budgets.

        Raises:
            ConfigurationError: Rate limiting is off; the message says what switches it on.
        """
        return self._state.services.get("rate_limiter")

    async def missing_permissions(self, principal: Principal | None, *permissions: str) -> frozenset[str]:
        """Return those of the permissions that a principal lacks; none where there is no authorizer."""
        running = await self._controller.start()
        return await missing_permissions(running.authorizers, principal, frozenset(permissions))

    @property
    def is_ready(self) -> bool:
        """Whether calls are taken: it is started, and not stopping."""
        running = self._state.running
        return running is not None and running.admission.is_open

    @property
    def places_in_use(self) -> int:
        """How many of the ``max_concurrent_workflows`` places are taken."""
        return running_workflows(self._state)

    @property
    def stages(self) -> frozenset[int]:
        """The stages that a call passes, while the platform is started."""
        running = self._state.running
        return frozenset(each.stage for each in running.interceptors) if running else frozenset()

    @property
    def has_authorizers(self) -> bool:
        """Whether plugins decide who may do what, while the platform is started."""
        running = self._state.running
        return running is not None and bool(running.authorizers)

    @property
    def channels(self) -> Sequence[Channel]:
        """The channels, while the platform is started."""
        running = self._state.running
        return tuple(running.channels) if running else ()

    @property
    def every_settings(self) -> Sequence[PluginSettings]:
        """The options of the core, and of each plugin that has some."""
        return tuple(self._state.settings.values())

    def measurements(self) -> Sequence[Measurement]:
        """Return the numbers that the core keeps, and those of plugins while the platform is started."""
        return [*own_measurements(self._state), *_given(self._state.running, "nexus_register_measurements")]

    def health_checks(self) -> Sequence[HealthCheck]:
        """Return the checks that plugins give, while the platform is started."""
        return _given(self._state.running, "nexus_register_health_checks")


def _given(running: Running | None, hook: str) -> list:  # type: ignore[type-arg]
    return running.contributions.of(hook) if running else []
