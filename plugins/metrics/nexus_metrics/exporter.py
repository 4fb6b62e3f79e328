"""`PrometheusExporter`: the metrics of a platform as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError
from nexus_metrics.families import COUNTER, HISTOGRAM, Family

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core import Nexus

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class PrometheusExporter:
    """Renders metrics, for who serves them himself: the platform has a port for them.

    Args:
        nexus: The platform; its option ``enable_monitoring`` is on.

    Raises:
        ConfigurationError: Metrics are off, or the plugin "metrics" is not active.
    """

    def __init__(self, nexus: Nexus) -> None:
        from nexus_metrics.settings import MetricsSettings

        try:
            settings = nexus.settings(MetricsSettings)
        except KeyError:
            raise ConfigurationError('The plugin "metrics" is not active.') from None
        if not settings.is_on:
            raise ConfigurationError("Metrics are off: set enable_monitoring=True.")
        self._monitor = settings.monitor(nexus)

    def render(self, *, openmetrics: bool = False) -> bytes:
        """Return the metrics as text, in Prometheus' own format or in OpenMetrics.

        It takes some milliseconds for each thousand series: call it in a thread.
        """
        return rendered(self._monitor.families(), openmetrics=openmetrics)

    async def refreshed(self) -> PrometheusExporter:
        """Let collectors look at the channels first. Call it on the platform's event loop."""
        await self._monitor.refresh()
        return self


def accepts_openmetrics(accept: str) -> bool:
    """Whether an Accept header asks for OpenMetrics, as Prometheus does."""
    return any(part.split(";")[0].strip() == "application/openmetrics-text" for part in accept.split(","))


def rendered(families: Iterable[Family], *, openmetrics: bool = False) -> bytes:
    """Return families in one of the two formats."""
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics_exposition

    generate: Any = openmetrics_exposition.generate_latest if openmetrics else exposition.generate_latest
    text: bytes = generate(_Metrics(families))
    return text


class _Metrics:
    """Families as prometheus-client takes them from a registry."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        from prometheus_client.metrics_core import Metric

        for family in self._families:
            name = family.name.removesuffix("_total") if family.kind == COUNTER else family.name
            metric = Metric(name, family.description, family.kind)
            metric.samples = _samples(family)
            yield metric


def _samples(family: Family) -> list[Any]:
    from prometheus_client.samples import Sample

    names = family.labels
    if family.kind != HISTOGRAM:
        return [
            Sample(family.name, dict(zip(names, values, strict=True)), number)
            for values, number in family.numbers.items()
        ]
    samples = []
    for values, distribution in family.distributions.items():
        labels, count = dict(zip(names, values, strict=True)), 0
        for bound, observations in zip((*distribution.bounds, float("inf")), distribution.counts, strict=True):
            count += observations
            samples.append(Sample(f"{family.name}_bucket", {**labels, "le": _bound(bound)}, float(count)))
        samples.append(Sample(f"{family.name}_count", labels, float(count)))
        samples.append(Sample(f"{family.name}_sum", labels, distribution.sum))
    return samples


def _bound(bound: float) -> str:
    """Return a bound as Prometheus' clients write it."""
    return "+Inf" if bound == float("inf") else repr(bound)
