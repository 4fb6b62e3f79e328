from __future__ import annotations

import os

import pytest
from nexus_tracing.plugin import TracingPlugin

from nexus_core.testing import isolated_nexus


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [each for each in os.environ if each.startswith(("NEXUS_", "OTEL_", "TRACE"))]:
        monkeypatch.delenv(name)


@pytest.fixture(name="make")
def make_fixture(otlp_receiver):
    """Make a platform that sends its traces to the receiver when it ends."""
    traced = {"enable_tracing": True, "tracing_endpoint": otlp_receiver.url, "tracing_push_interval": 0.05}
    return lambda *plugins, **options: isolated_nexus(TracingPlugin, *plugins, **traced | options)


class Spans:
    """What the receiver was sent."""

    def __init__(self, receiver):
        self._receiver = receiver

    @property
    def all(self):
        return self._receiver.spans()

    def named(self, name):
        return [span for span in self.all if span.name == name]

    def one(self, name):
        (found,) = self.named(name)
        return found

    def parent(self, span):
        found = [each for each in self.all if each.span_id == span.parent_span_id]
        return found[0] if found else None

    def ancestors(self, span):
        names = []
        while (span := self.parent(span)) is not None:
            names.append(span.name)
        return names

    @staticmethod
    def attributes(span):
        return {
            each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
        }  # fmt: skip


@pytest.fixture(name="spans")
def spans_fixture(otlp_receiver):
    return Spans(otlp_receiver)
