"""Metrics of Nexus, for Prometheus and OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_metrics.collector import MetricsCollector
    from nexus_metrics.exporter import PrometheusExporter

__all__ = ["MetricsCollector", "PrometheusExporter"]


def __getattr__(name: str) -> Any:
    if name == "MetricsCollector":
        from nexus_metrics.collector import MetricsCollector

        return MetricsCollector
    if name == "PrometheusExporter":
        from nexus_metrics.exporter import PrometheusExporter

        return PrometheusExporter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
