"""`MetricsCollector`: takes numbers from user code, and may be told of each run and each channel."""

from __future__ import annotations

import math
import re
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nexus_core.text import printable
from nexus_metrics.families import COUNTER, GAUGE, HISTOGRAM, Distribution, Family, exposed

if TYPE_CHECKING:
    from collections.abc import Mapping

RESERVED = "nexus_"
"""What the names of the platform's own metrics begin with."""

MAX_SERIES = 1000
"""Sets of label values that a metric may have; further ones are counted under `OTHER`."""

OTHER = "other"
LABEL_CHARACTERS = 100
"""How much of a label's value is kept."""

MAX_METRICS = 1000
"""Metrics that a collector may have."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,99}")


class MetricsCollector:
    """Subclass it, count in what you override, and ``nexus.register_metrics_collector(Collector())``.

    The methods that count may be called from any thread, by whatever code has the collector.
    """

    @cached_property
    def _own_metrics(self) -> CollectorMetrics:
        return CollectorMetrics()

    def increment_counter(self, name: str, labels: Mapping[str, Any] | None = None, value: float = 1) -> None:
        """Add to a counter.

        Args:
            name: The metric's name; it is exposed with ``_total`` at its end.
            labels: Names and values that tell its numbers apart: always the same names, and few values.
            value: What to add, 0 or more.

        Raises:
            ValueError: A name is invalid in Prometheus, is used for another kind of metric or with other labels,
                or the value is negative or no finite number.
        """
        self._own_metrics.count(name, labels or {}, value)

    def record_histogram(self, name: str, value: float, labels: Mapping[str, Any] | None = None) -> None:
        """Add an observation to a histogram, of seconds as a rule: see `nexus_metrics.families.BOUNDS`.

        Raises:
            ValueError: See `increment_counter`.
        """
        self._own_metrics.observe(name, labels or {}, value)

    def set_gauge(self, name: str, value: float, labels: Mapping[str, Any] | None = None) -> None:
        """Say how large something is now.

        Raises:
            ValueError: See `increment_counter`.
        """
        self._own_metrics.set(name, labels or {}, value)

    def collect_workflow_metrics(self, workflow_name: str, duration: float, success: bool) -> Any:
        """A run of a workflow has ended. Called for each, in order, in a thread if it is not async.

        Args:
            workflow_name: The workflow.
            duration: Seconds.
            success: Whether it gave a result.
        """

    def collect_channel_metrics(self, channel: str, request_count: int, error_count: int) -> Any:
        """Metrics are about to be read. Called for each channel that was used.

        Args:
            channel: ``api``, ``cli``, ``mcp``, ``python``, ...
            request_count: Calls in flight now.
            error_count: Calls that were refused or have failed since the last time.
        """


def metrics_of(collector: MetricsCollector) -> CollectorMetrics:
    """Return what a collector has counted so far."""
    return collector._own_metrics


class CollectorMetrics:
    """The metrics of one collector. From any thread.

    Attributes:
        overflowed: How often a number came under `OTHER`, because a metric had `MAX_SERIES` already.
    """

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._lock = threading.Lock()
        self.overflowed = 0

    def count(self, name: str, labels: Mapping[str, Any], value: float) -> None:
        """See `MetricsCollector.increment_counter`."""
        value = _finite(name, value)
        if value < 0:
            raise ValueError(f"The counter {name!r} can't be incremented by {value:g}: counters only grow.")
        _check_name(name)
        with self._lock:
            family, key = self._place(name if name.endswith("_total") else f"{name}_total", COUNTER, labels)
            family.numbers[key] = family.numbers.get(key, 0.0) + value

    def set(self, name: str, labels: Mapping[str, Any], value: float) -> None:
        """See `MetricsCollector.set_gauge`."""
        value = _finite(name, value)
        with self._lock:
            family, key = self._place(name, GAUGE, labels)
            family.numbers[key] = value

    def observe(self, name: str, labels: Mapping[str, Any], value: float) -> None:
        """See `MetricsCollector.record_histogram`."""
        value = _finite(name, value)
        with self._lock:
            family, key = self._place(name, HISTOGRAM, labels)
            found = family.distributions.get(key)
            if found is None:
                found = family.distributions[key] = Distribution()
            found.observe(value)

    def families(self) -> list[Family]:
        """Return the present values."""
        with self._lock:
            return [
                Family(
                    each.name, each.kind, each.description, each.labels, dict(each.numbers),
                    {labels: found.copy() for labels, found in each.distributions.items()},
                )
                for each in self._families.values()
            ]  # fmt: skip

    def _place(self, name: str, kind: str, labels: Mapping[str, Any]) -> tuple[Family, tuple[str, ...]]:
        family = self._families.get(name) or self._made(name, kind, labels)
        if family.kind != kind:
            raise ValueError(f"The metric {name!r} is a {family.kind} already, and can't be a {kind}.")
        if labels.keys() != set(family.labels):
            known, given = (", ".join(names) or "none" for names in (family.labels, sorted(map(str, labels))))
            raise ValueError(f"The metric {name!r} has the labels {known}, not {given}.")
        key = tuple(_shown(labels[label]) for label in family.labels)
        series = family.distributions if kind == HISTOGRAM else family.numbers
        if key not in series and len(series) >= MAX_SERIES:
            self.overflowed += 1
            key = (OTHER,) * len(key)
        return family, key

    def _made(self, name: str, kind: str, labels: Mapping[str, Any]) -> Family:
        _check_name(name)
        if name.startswith(RESERVED):
            raise ValueError(f"The name {name!r} begins with {RESERVED!r}: those are the platform's own.")
        for label in labels:
            if not isinstance(label, str) or not _LABEL.fullmatch(label) or (kind == HISTOGRAM and label == "le"):
                raise ValueError(f"{printable(str(label))!r} is not the name of a label of the metric {name!r}.")
        if len(self._families) >= MAX_METRICS:
            raise ValueError(f"There are {MAX_METRICS} metrics already: {name!r} is one too many.")
        family = Family(name, kind, f"{name}.", tuple(labels))
        for other in self._families.values():
            if not set(exposed(family)).isdisjoint(exposed(other)):
                raise ValueError(
                    f"The metric {name!r} has the same exported name as {other.name!r}, which is a {other.kind}."
                )
        self._families[name] = family
        return family


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{printable(str(name))!r} is not the name of a metric: letters, digits and underscores.")


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"The value of the metric {printable(str(name))!r} must be a number, not a {type(value).__name__}."
            ) from None
    if not math.isfinite(value):
        raise ValueError(f"The value of the metric {printable(str(name))!r} can't be {value}.")
    return float(value)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return printable(text, LABEL_CHARACTERS)
