"""`Pusher`: sends metrics to an OpenTelemetry collector from time to time, by OTLP over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import logging
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_core import ConfigurationError
from nexus_metrics.families import COUNTER, GAUGE, Family

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

log = logging.getLogger(__name__)

PATH = "/v1/metrics"
SEND_SECONDS = 5.0
"""How long a collector may take for one push."""

LAST_SECONDS = 2.0
"""How long the end waits for the last one."""


class Pusher:
    """Sends what a platform counts, in a thread of its own: a collector that is away costs nobody anything.

    Args:
        address: Where the collector is; see `endpoint`.
        headers: Headers of each request.
        interval: Seconds between two pushes.
        refresh: Lets collectors of metrics look at the channels, on the platform's event loop.
        read: Returns the numbers, from any thread.
    """

    def __init__(
        self, address: str, headers: Mapping[str, str], interval: float,
        refresh: Callable[[], Coroutine[Any, Any, None]], read: Callable[[], list[Family]],
    ) -> None:  # fmt: skip
        self._address = address
        self._headers = headers
        self._interval = interval
        self._refresh = refresh
        self._read = read
        self._began = time.time_ns()
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._is_away = False
        self._thread = threading.Thread(target=self._work, name="nexus-metrics-push", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                asyncio.run_coroutine_threadsafe(self._refresh(), self._loop).result(SEND_SECONDS)
            except Exception:
                log.debug("The collectors of metrics could not look at the channels", exc_info=True)
            self._push(SEND_SECONDS)
        self._push(LAST_SECONDS)

    def _push(self, seconds: float) -> None:
        try:
            self._send(encoded(self._read(), self._began, time.time_ns()), seconds)
        except Exception as exc:
            if not self._is_away:
                log.warning("Metrics can't be sent to %s: %s", _shown(self._address), _reason(exc))
            self._is_away = True
        else:
            if self._is_away:
                log.warning("Metrics can be sent to %s again", _shown(self._address))
            self._is_away = False

    def _send(self, body: bytes, seconds: float) -> None:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip", **self._headers}
        request = urllib.request.Request(self._address, gzip.compress(body, 1), headers, method="POST")  # noqa: S310
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds) as response:
            response.read(65536)

    def close(self) -> None:
        """Push once more, for at most `LAST_SECONDS`. Call it in a thread."""
        self._stopped.set()
        self._thread.join(LAST_SECONDS)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Metrics, and the token that goes with them, are sent to nobody else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def endpoint(url: str) -> str:
    """Return where metrics are sent, of the base address of a collector or of the whole address.

    Raises:
        ConfigurationError: It is no HTTP address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("monitoring_service_url must be an address that begins with http:// or https://.")
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(PATH) else path + PATH).geturl()


def _shown(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(exc: Exception) -> str:
    reason = getattr(exc, "reason", exc)
    return f"{exc.code} {reason}" if isinstance(exc, urllib.error.HTTPError) else str(reason)[:200]


def encoded(families: Iterable[Family], began: int, now: int) -> bytes:
    """Return families as the protobuf of OTLP. Counters and histograms are cumulative.

    Args:
        families: The families.
        began: Since when is counted, in nanoseconds since the epoch.
        now: The time, likewise.
    """
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    metrics = [_metric(family, began, now) for family in families if family.numbers or family.distributions]
    resource = Resource({"service.name": "nexus"}).merge(Resource.create())
    name = Resource.create().attributes.get("service.name", "")
    if str(name).startswith("unknown_service"):
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
