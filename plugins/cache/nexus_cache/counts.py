"""`Counts`: how often results were found."""

from __future__ import annotations

from nexus_core.types.measurement import Measurement


class Counts:
    """What became of the calls that may be answered from the cache, since the process began.

    Attributes:
        hits: Answered with a kept result.
        joins: Answered with what an equal call was working on already.
        misses: Not answered.
    """

    def __init__(self) -> None:
        self.hits = self.joins = self.misses = 0

    def measurements(self) -> list[Measurement]:
        """Return the counts for those who export metrics."""
        return [
            Measurement(
                "nexus_cache_requests_total",
                "counter",
                "Calls that may be answered from the cache, by whether they were.",
                ("outcome",),
                lambda: [(("hit",), self.hits), (("join",), self.joins), (("miss",), self.misses)],
            )
        ]
