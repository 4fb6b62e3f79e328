"""Metrics, and their exporters."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    MetricsCollector="nexus_metrics",
    PrometheusExporter="nexus_metrics",
)
