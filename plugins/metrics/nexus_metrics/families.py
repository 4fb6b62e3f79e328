"""`Family`: all values of one metric; and the sum of the families of collectors and processes."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of histogram buckets, in seconds."""

SMALLEST_OF_ALL = ("_up", "_active", "_healthy", "_ready")
LARGEST_OF_ALL = ("_state", "_failing", "_seconds", "_info")
"""Suffixes of gauges that are not summed over processes: the minimum or maximum is exposed."""


class Distribution:
    """The values of a histogram for one set of labels.

    Attributes:
        counts: Observations in each bucket, and above the last bound; not cumulative.
        sum: The sum of all observations.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Add an observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: Distribution) -> None:
        """Add the observations of another distribution."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def copy(self) -> Distribution:
        """Return a copy."""
        same = Distribution(self.bounds)
        same.counts, same.sum = [*self.counts], self.sum
        return same


@dataclass(slots=True)
class Family:
    """One metric.

    Attributes:
        name: The exposed name; that of a counter ends with ``_total``.
        kind: `COUNTER`, `GAUGE` or `HISTOGRAM`.
        description: The help text.
        labels: The names of the labels.
        numbers: The values of counters and gauges, by label values.
        distributions: The values of histograms, likewise.
    """

    name: str
    kind: str
    description: str
    labels: tuple[str, ...] = ()
    numbers: dict[tuple[str, ...], float] = field(default_factory=dict)
    distributions: dict[tuple[str, ...], Distribution] = field(default_factory=dict)

    def add(self, other: Family) -> None:
        """Add the values of a family of the same kind and labels."""
        for labels, number in other.numbers.items():
            known = self.numbers.get(labels)
            self.numbers[labels] = number if known is None else self._joined(known, number)
        for labels, distribution in other.distributions.items():
            mine = self.distributions.get(labels)
            if mine is None:
                self.distributions[labels] = distribution.copy()
            elif mine.bounds == distribution.bounds:
                mine.add(distribution)

    def _joined(self, one: float, other: float) -> float:
        if self.kind == GAUGE and self.name.endswith(SMALLEST_OF_ALL):
            return min(one, other)
        if self.kind == GAUGE and self.name.endswith(LARGEST_OF_ALL):
            return max(one, other)
        return one + other


def summed(families: Iterable[Family]) -> list[Family]:
    """Return one family for each name. Of conflicting ones, the first is used."""
    found: dict[str, Family] = {}
    taken: set[str] = set()
    for family in families:
        known = found.get(family.name)
        if known is None:
            names = exposed(family)
            if not taken.isdisjoint(names):
                continue
            taken.update(names)
            found[family.name] = known = Family(family.name, family.kind, family.description, family.labels)
        if (known.kind, known.labels) == (family.kind, family.labels):
            known.add(family)
    return [*found.values()]


def exposed(family: Family) -> list[str]:
    """Return every name that a family is exposed under."""
    if family.kind == HISTOGRAM:
        return [family.name, *(f"{family.name}{ending}" for ending in ("_bucket", "_count", "_sum"))]
    return [family.name, family.name.removesuffix("_total")]
