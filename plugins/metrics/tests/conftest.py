from __future__ import annotations

import os
import re

import pytest
from nexus_metrics.plugin import MetricsPlugin
from prometheus_client.parser import text_string_to_metric_families

from nexus_core.testing import isolated_nexus


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [each for each in os.environ if each.startswith(("NEXUS_", "OTEL_", "PROMETHEUS_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(name="make")
def make_fixture():
    """Make a platform with metrics on, and nothing else."""
    return lambda *plugins, **options: isolated_nexus(MetricsPlugin, *plugins, **{"enable_monitoring": True} | options)


class Scrape:
    """What Prometheus' own parser reads in a text."""

    def __init__(self, text):
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }
        self.exposed = set(re.findall(r"(?m)^# TYPE (\S+)", text))

    def value(self, name, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def sum(self, name, **labels):
        return sum(
            value
            for (found, given), value in self.samples.items()
            if found == name and labels.items() <= dict(given).items()
        )

    def series(self, name):
        return {labels for found, labels in self.samples if found == name}


@pytest.fixture(name="scraped")
def scraped_fixture():
    """Read what a platform exports."""
    from nexus_metrics import PrometheusExporter

    async def scraped(nexus):
        exporter = await PrometheusExporter(nexus).refreshed()
        return Scrape((await nexus.threads.call(exporter.render)).decode())

    return scraped


@pytest.fixture(name="parse")
def parse_fixture():
    return Scrape
