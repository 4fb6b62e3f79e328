"""What a run store keeps of runs that have ended, and what a pass of pruning removes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RunRetention:
    """How long and how much is kept of runs that have ended. None in a member means without a limit.

    Attributes:
        max_age: Seconds after its end that a run is kept.
        max_runs: How many runs are kept, running ones included.
        max_bytes: How many bytes of parameters, results and events are kept.
        workflows: The limits of single workflows, within those for all; their own ``workflows`` do not count.
    """

    max_age: float | None = None
    max_runs: int | None = None
    max_bytes: int | None = None
    workflows: Mapping[str, RunRetention] = field(default_factory=dict)


class Pruned(NamedTuple):
    """What a pass of `RunStore.prune` removed, or would remove.

    Attributes:
        runs: How many runs.
        bytes: How many bytes of parameters, results and events.
        is_complete: Whether nothing is left that is beyond the limits; else another pass goes on.
    """

    runs: int
    bytes: int
    is_complete: bool
