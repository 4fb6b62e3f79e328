"""`PrometheusExporter`: the metrics of a platform in the formats of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError
from nexus_metrics.families import COUNTER, HISTOGRAM, Family
from nexus_metrics.registry_owner import registry_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core import Platform

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class PrometheusExporter:
    """Renders metrics, for applications that serve them on another port than ``metrics_port``.

    Args:
        nexus: The platform, with ``enable_monitoring=True``.

    Raises:
        ConfigurationError: Metrics are off, or the plugin "metrics" is not active.
    """

    def __init__(self, nexus: Platform) -> None:
        registry = registry_of(nexus)
        if registry is None:
            raise ConfigurationError('Metrics are off: set enable_monitoring=True, with the plugin "metrics" active.')
        self._registry = registry

    def render(self, *, openmetrics: bool = False) -> bytes:
        """Return the metrics as text, in the format of Prometheus or in OpenMetrics.

        It takes a few milliseconds per thousand series: call it in a thread.
        """
        return rendered(self._registry.families(), openmetrics=openmetrics)

    async def refreshed(self) -> PrometheusExporter:
        """Let collectors read the channels first. Call it on the platform's event loop."""
        await self._registry.refresh()
        return self


def accepts_openmetrics(accept: str) -> bool:
    """Whether an Accept header asks for OpenMetrics, as that of Prometheus does."""
    return any(part.split(";")[0].strip() == "application/openmetrics-text" for part in accept.split(","))


def rendered(families: Iterable[Family], *, openmetrics: bool = False) -> bytes:
    """Return families in one of the two formats."""
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics_exposition

    generate: Any = openmetrics_exposition.generate_latest if openmetrics else exposition.generate_latest
    text: bytes = generate(_Metrics(families))
    return text


class _Metrics:
    """Families in the form of a prometheus-client registry."""

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
    """Return a bound as Prometheus clients write it."""
    return "+Inf" if bound == float("inf") else repr(bound)
