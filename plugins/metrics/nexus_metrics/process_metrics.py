"""Metrics of the process: CPU, memory, open files, garbage collection. Read by prometheus-client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_metrics.families import COUNTER, GAUGE, Family

if TYPE_CHECKING:
    from collections.abc import Iterator


def process_families() -> Iterator[Family]:
    """Yield them under the names of all Prometheus clients; none if the system does not provide them."""
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    for metric in registry.collect():
        samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
        if not samples or metric.type not in (COUNTER, GAUGE):
            continue
        labels = tuple(samples[0].labels)
        numbers = {tuple(sample.labels.values()): float(sample.value) for sample in samples}
        yield Family(samples[0].name, metric.type, metric.documentation, labels, numbers)
