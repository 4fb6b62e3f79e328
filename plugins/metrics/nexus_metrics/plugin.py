"""The plugin ``metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import ConfigurationError, Platform, Plugin
from nexus_metrics.registry_owner import RegistryOwner
from nexus_metrics.settings import OTLP, PROMETHEUS, MetricsSettings

if TYPE_CHECKING:
    from nexus_core import Channel, Interceptor
    from nexus_core.types.measurement import Collector
    from nexus_metrics.otlp import OtlpPusher
    from nexus_metrics.registry import MetricsRegistry


class MetricsPlugin(RegistryOwner, Plugin[MetricsSettings]):
    """Collects metrics, for Prometheus to scrape and to push by OTLP."""

    def __init__(self, platform: Platform, settings: MetricsSettings) -> None:
        super().__init__(platform, settings)
        self._pusher: OtlpPusher | None = None
        if settings.enable_monitoring or settings.enable_metrics:
            from nexus_metrics.registry import MetricsRegistry

            self.registry = MetricsRegistry(platform)

    @property
    def backends(self) -> list[str]:
        """How metrics are exported."""
        if self.registry is None:
            return []
        if self.settings.metrics_backend is not None:
            return self.settings.metrics_backend
        return [PROMETHEUS] if self.settings.monitoring_service_url is None else [PROMETHEUS, OTLP]

    async def startup(self) -> None:
        """Start to collect metrics, and to push them.

        Raises:
            ConfigurationError: An option is missing or invalid.
        """
        registry = self.registry
        if registry is None:
            return
        pushes = OTLP in self.backends
        if pushes and self.settings.monitoring_service_url is None:
            raise ConfigurationError("metrics_backend otlp needs monitoring_service_url: the OpenTelemetry collector.")
        pusher = self._make_pusher(registry) if pushes else None
        await registry.start(self.settings.metrics_multiprocess_dir)
        if pusher is not None:
            pusher.start()
        self._pusher = pusher

    def _make_pusher(self, registry: MetricsRegistry) -> OtlpPusher:
        from nexus_toolkit.telemetry import TelemetryCollector

        from nexus_metrics.otlp import OtlpPusher

        url, token = self.settings.monitoring_service_url or "", self.settings.monitoring_service_token
        collector = TelemetryCollector(url, "/v1/metrics", "monitoring_service_url", token)
        return OtlpPusher(collector, self.settings.metrics_push_interval, registry)

    async def shutdown(self) -> None:
        """Push the last metrics, and stop."""
        pusher, self._pusher = self._pusher, None
        if pusher is not None:
            await self.platform.threads.call(pusher.close)
        if self.registry is not None:
            await self.registry.stop()

    def nexus_register_metrics_collectors(self) -> list[Collector]:
        """Return the collector for code that registers none."""
        return [] if self.registry is None else [self.registry.default]

    def nexus_register_interceptors(self) -> list[Interceptor]:
        """Return the stage that counts calls."""
        return [] if self.registry is None else [self.registry.calls]

    def nexus_register_channels(self) -> list[Channel]:
        """Return the port for Prometheus."""
        if self.registry is None or PROMETHEUS not in self.backends:
            return []
        from nexus_metrics.channel import MetricsChannel

        return [MetricsChannel(self.platform, self.settings, self.registry)]
