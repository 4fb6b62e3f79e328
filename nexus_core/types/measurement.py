"""Measurements: numbers that the core and plugins keep anyway, read only on request.

A counter costs the code that keeps it one addition. What exports measurements (a metrics plugin) asks
`Nexus.measurements` for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number, or one for each of a few things.

    Attributes:
        name: In the form of Prometheus: the unit at its end, ``_total`` at a counter's.
        kind: ``counter`` where it only grows, ``gauge`` where it may fall.
        description: What it tells, in a sentence.
        labels: What tells its numbers apart.
        read: Returns them now, each with its labels' values. Called on any thread; it must not block. What callers send
            is never a label's value: each would be kept for ever.
    """

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    labels: tuple[str, ...]
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]

    @classmethod
    def of(
        cls, name: str, kind: Literal["counter", "gauge"], description: str, number: Callable[[], float]
    ) -> Measurement:
        """Return a measurement of one number without labels."""
        return cls(name, kind, description, (), lambda: (((), number()),))


class Collector(Protocol):
    """What takes numbers from user code. Given by ``nexus_register_metrics_collectors``."""

    def increment_counter(self, name: str, labels: Mapping[str, str] | None = None, value: float = 1) -> None:
        """Add to a counter."""

    def record_histogram(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Add an observation to a histogram."""

    def set_gauge(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Set a gauge."""
