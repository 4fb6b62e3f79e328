# Written by `make generate`.

from nexus_metrics import MetricsCollector as MetricsCollector
from nexus_metrics import PrometheusExporter as PrometheusExporter

__all__ = [
    "MetricsCollector",
    "PrometheusExporter",
]
