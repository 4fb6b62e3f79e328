"""What begins and ends with the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    address = _address(settings) if OTLP in settings.metrics_backend else None
    processes = None
    if settings.metrics_multiprocess_dir is not None:
        from nexus_metrics.processes import Processes

        processes = await nexus.threads.call(Processes, settings.metrics_multiprocess_dir, monitor.own_families)
    monitor.start(processes)
    if address is not None:
        from nexus_metrics.otlp import Pusher

        token = settings.monitoring_service_token
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        monitor.pusher = Pusher(address, headers, settings.metrics_push_interval, monitor.refresh, monitor.own_families)


def _address(settings: MetricsSettings) -> str:
    from nexus_metrics.otlp import endpoint

    if settings.monitoring_service_url is None:
        raise ConfigurationError("metrics_backend otlp needs monitoring_service_url: where metrics are sent.")
    return endpoint(settings.monitoring_service_url)


async def stop(nexus: Nexus, settings: MetricsSettings) -> None:
    """End it: the last numbers are sent."""
    monitor = settings.monitor(nexus)
    pusher, monitor.pusher = monitor.pusher, None
    if pusher is not None:
        await nexus.threads.call(pusher.close)
    await monitor.stop()
