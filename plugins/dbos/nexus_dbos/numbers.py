"""`Numbers`: how the queue is."""

from __future__ import annotations

from typing import NamedTuple


class Numbers(NamedTuple):
    """How the queue is.

    Attributes:
        queued: Runs that wait.
        oldest_seconds: How long the first of them has waited.
        workers: Living processes that work.
        unserved: Runs that wait and that no living process can work on, by the names of their workflows.
    """

    queued: int
    oldest_seconds: float
    workers: int
    unserved: dict[str, int]


NONE = Numbers(0, 0.0, 0, {})
"""Before anything is counted."""
