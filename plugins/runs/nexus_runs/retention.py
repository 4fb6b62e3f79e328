"""Which runs a pass of pruning removes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nexus_core.runs.retention import Pruned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core.runs.retention import RunRetention

TOTALS = "SELECT coalesce(sum(runs), 0), coalesce(sum(bytes), 0) FROM usage"
OLDEST = "SELECT n, workflow, size, finished_at FROM runs WHERE finished_at IS NOT NULL"


PASS_BYTES = 16 * 1024 * 1024
"""Bytes of parameters, results and events after which a pass that removes them ends: others wait for it."""


class Victims:
    """The runs that a pass removes: workflow and size by the keys of their rows, up to a limit.

    Args:
        limit: How many at most.
        dry_run: Whether they are only counted. Else `PASS_BYTES` bounds them too.

    Attributes:
        sizes: Workflow and size of each.
    """

    def __init__(self, limit: int, *, dry_run: bool = False) -> None:
        self._limit = limit
        self._bytes_left: float = math.inf if dry_run else PASS_BYTES
        self.sizes: dict[int, tuple[str, int]] = {}
        self._is_full = False

    @property
    def looked_through(self) -> int:
        """How many of the oldest runs have to be looked through to fill it: some may be in it already."""
        return 2 * self._limit + 1

    @property
    def pruned(self) -> Pruned:
        """What the pass removes."""
        return Pruned(len(self.sizes), sum(size for _, size in self.sizes.values()), not self._is_full)

    @property
    def usage(self) -> dict[str, tuple[int, int]]:
        """How many runs, and bytes, the pass adds to each workflow: negative numbers."""
        usage: dict[str, tuple[int, int]] = {}
        for workflow, size in self.sizes.values():
            runs, before = usage.get(workflow, (0, 0))
            usage[workflow] = (runs - 1, before - size)
        return usage

    def choose(
        self, keep: RunRetention, now: float, workflow: str | None, total: tuple[int, int],
        oldest: Iterable[tuple[int, str, int, float]],
    ) -> None:  # fmt: skip
        """Add the runs that the limits of one workflow, or of all, remove.

        Args:
            keep: The limits.
            now: The time.
            workflow: The workflow, or None for all.
            total: How many runs of it are stored, and how many bytes.
            oldest: Key, workflow, size and end of the runs of it that ended first, in order.
        """
        chosen = [size for name, size in self.sizes.values() if workflow in (None, name)]
        count, size = total[0] - len(chosen), total[1] - sum(chosen)
        for number, name, of_run, finished_at in oldest:
            if number in self.sizes:
                continue
            is_old = keep.max_age is not None and finished_at < now - keep.max_age
            is_many = keep.max_runs is not None and count > keep.max_runs
            is_large = keep.max_bytes is not None and size > keep.max_bytes
            if not (is_old or is_many or is_large):
                return
            if len(self.sizes) >= self._limit or self._bytes_left <= 0:
                self._is_full = True
                return
            self.sizes[number] = (name, of_run)
            self._bytes_left -= of_run
            count, size = count - 1, size - of_run


def limits_of(keep: RunRetention) -> list[tuple[str | None, RunRetention]]:
    """Return the limits in the order in which they are applied, each with its workflow: those for all come last."""
    every: list[tuple[str | None, RunRetention]] = [*keep.workflows.items(), (None, keep)]
    return [(name, each) for name, each in every if (each.max_age, each.max_runs, each.max_bytes) != (None, None, None)]
