"""`CacheCounts`: numbers of cache hits and misses."""

from __future__ import annotations

from nexus_core.types.measurement import Measurement


class CacheCounts:
    """Numbers of cacheable calls since the platform was created.

    Attributes:
        hits: Calls answered with a cached result.
        joins: Calls answered with the result of an equal call in flight.
        misses: Calls that ran.
    """

    def __init__(self) -> None:
        self.hits = self.joins = self.misses = 0

    def measurements(self) -> list[Measurement]:
        """Return the counts as measurements."""
        return [
            Measurement(
                "nexus_cache_requests_total",
                "counter",
                "Cacheable calls by outcome: hit, join (of an equal call in flight) or miss.",
                ("outcome",),
                lambda: [(("hit",), self.hits), (("join",), self.joins), (("miss",), self.misses)],
            )
        ]
