"""Metrics of one's own, and where they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_metrics import MetricsCollector as MetricsCollector
    from nexus_metrics import PrometheusExporter as PrometheusExporter

__getattr__, __dir__, __all__ = names(
    __name__,
    MetricsCollector="nexus_metrics",
    PrometheusExporter="nexus_metrics",
)
