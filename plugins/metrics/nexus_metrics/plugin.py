"""Hook implementations of the plugin ``metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Channel, Interceptor, Nexus
    from nexus_core.types.measurement import Collector


@hookimpl
def nexus_register_settings() -> type:
    """Give the options of metrics."""
    from nexus_metrics.settings import MetricsSettings

    return MetricsSettings


@hookimpl
def nexus_register_metrics_collectors(nexus: Nexus) -> list[Collector]:
    """Give the collector for code that has none of its own, where metrics are on."""
    from nexus_metrics.settings import MetricsSettings

    settings = nexus.settings(MetricsSettings)
    return [settings.monitor(nexus).default] if settings.is_on else []


@hookimpl
async def nexus_startup(nexus: Nexus) -> None:
    """Begin to count, and to send."""
    from nexus_metrics.settings import MetricsSettings

    settings = nexus.settings(MetricsSettings)
    if settings.is_on:
        from nexus_metrics.build import start

        await start(nexus, settings)


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """End it."""
    from nexus_metrics.settings import MetricsSettings

    settings = nexus.settings(MetricsSettings)
    if settings.is_on:
        from nexus_metrics.build import stop

        await stop(nexus, settings)


@hookimpl
def nexus_register_interceptors(nexus: Nexus) -> list[Interceptor]:
    """Give the stage that counts calls, where metrics are on."""
    from nexus_metrics.settings import MetricsSettings

    settings = nexus.settings(MetricsSettings)
    return [settings.monitor(nexus).calls] if settings.is_on else []


@hookimpl
def nexus_register_channels(nexus: Nexus) -> list[Channel]:
    """Give the port that Prometheus reads, where it is asked for."""
    from nexus_metrics.settings import PROMETHEUS, MetricsSettings

    settings = nexus.settings(MetricsSettings)
    if not settings.is_on or PROMETHEUS not in settings.backends:
        return []
    from nexus_metrics.channel import MetricsChannel
    from nexus_metrics.exporter import PrometheusExporter

    return [MetricsChannel(nexus, settings, PrometheusExporter(nexus))]
