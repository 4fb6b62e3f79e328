"""`OtlpPusher`: pushes metrics to an OpenTelemetry collector at intervals, by OTLP over HTTP."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from nexus_metrics.families import COUNTER, GAUGE, Family

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_toolkit.telemetry import TelemetryCollector

    from nexus_metrics.registry import MetricsRegistry

log = logging.getLogger(__name__)

SEND_SECONDS = 5.0
"""Time limit of a push."""

LAST_SECONDS = 2.0
"""Time limit of the last push, at shutdown."""


class OtlpPusher:
    """Pushes metrics in a background thread, so that an unavailable collector delays nothing.

    Args:
        collector: The OpenTelemetry collector.
        interval: Seconds between pushes.
        registry: The metrics.
    """

    def __init__(self, collector: TelemetryCollector, interval: float, registry: MetricsRegistry) -> None:
        self._collector = collector
        self._interval = interval
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="nexus-metrics-push", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _work(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                asyncio.run_coroutine_threadsafe(self._registry.refresh(), self._loop).result(SEND_SECONDS)
            except Exception:
                log.debug("The metrics collectors could not read the channels", exc_info=True)
            self._push(SEND_SECONDS)
        self._push(LAST_SECONDS)

    def _push(self, seconds: float) -> None:
        try:
            message = encoded(self._registry.own_families(), self._registry.started_at, time.time_ns())
        except Exception:
            log.exception("The metrics can't be encoded")
        else:
            self._collector.send(message, seconds)

    def close(self) -> None:
        """Push once more, for at most `LAST_SECONDS`. It blocks: call it in a thread."""
        self._stopped.set()
        self._thread.join(LAST_SECONDS)


def encoded(families: Iterable[Family], began: int, now: int) -> bytes:
    """Return families as an OTLP protobuf message. Counters and histograms are cumulative.

    Args:
        families: The families.
        began: When counting started, in nanoseconds since the epoch.
        now: The current time, likewise.
    """
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    metrics = [_metric(family, began, now) for family in families if family.numbers or family.distributions]
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "nexus"}))
    scope = ScopeMetrics(InstrumentationScope("nexus"), metrics, "")
    message: bytes = encode_metrics(MetricsData([ResourceMetrics(resource, [scope], "")])).SerializeToString()
    return message


def _metric(family: Family, began: int, now: int) -> Any:
    from opentelemetry.sdk.metrics import export

    cumulative = export.AggregationTemporality.CUMULATIVE

    def attributes(values: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(family.labels, values, strict=True))

    data: Any
    if family.kind in (COUNTER, GAUGE):
        points = [
            export.NumberDataPoint(attributes(values), began if family.kind == COUNTER else 0, now, number)
            for values, number in family.numbers.items()
        ]
        data = export.Sum(points, cumulative, True) if family.kind == COUNTER else export.Gauge(points)
    else:
        data = export.Histogram(
            [
                export.HistogramDataPoint(
                    attributes(values), began, now, sum(found.counts), found.sum, found.counts, found.bounds,
                    None, None,  # type: ignore[arg-type]  # neither is known
                )
                for values, found in family.distributions.items()
            ],
            cumulative,
        )  # fmt: skip
    unit = "s" if family.name.endswith("_seconds") else ""
    return export.Metric(family.name, family.description, unit, data)
