"""What begins and ends with the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_toolkit.telemetry import TelemetryCollector

from nexus_core import ConfigurationError
from nexus_metrics.settings import OTLP

if TYPE_CHECKING:
    from nexus_core import Nexus
    from nexus_metrics.settings import MetricsSettings


async def start(nexus: Nexus, settings: MetricsSettings) -> None:
    """Begin to count, and to send where that is asked for.

    Raises:
        ConfigurationError: An option is missing or wrong.
    """
    monitor = settings.monitor(nexus)
    collector = _collector(settings) if OTLP in settings.backends else None
    processes = None
    if settings.metrics_multiprocess_dir is not None:
        from nexus_metrics.processes import Processes

        processes = await nexus.threads.call(Processes, settings.metrics_multiprocess_dir, monitor.own_families)
    monitor.start(processes)
    if collector is not None:
        from nexus_metrics.otlp import Pusher

        interval = settings.metrics_push_interval
        monitor.pusher = Pusher(collector, interval, monitor.began, monitor.refresh, monitor.own_families)


def _collector(settings: MetricsSettings) -> TelemetryCollector:
    if settings.monitoring_service_url is None:
        raise ConfigurationError("metrics_backend otlp needs monitoring_service_url: where metrics are sent.")
    token = settings.monitoring_service_token
    return TelemetryCollector(
        settings.monitoring_service_url,
        "/v1/metrics",
        "monitoring_service_url",
        None if token is None else token.get_secret_value(),
    )


async def stop(nexus: Nexus, settings: MetricsSettings) -> None:
    """End it: the last numbers are sent."""
    monitor = settings.monitor(nexus)
    pusher, monitor.pusher = monitor.pusher, None
    if pusher is not None:
        await nexus.threads.call(pusher.close)
    await monitor.stop()
