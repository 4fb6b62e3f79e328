"""A run as channels show it, whether this process or a run store has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from nexus_core.events.event import WORKFLOW_BLOCKED
from nexus_core.runs.status import RunStatus
from nexus_core.runs.work import WorkPosition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nexus_core.errors import NexusError
    from nexus_core.events.event import ChannelEvent
    from nexus_core.runs.question import RunQuestion

QUESTIONS_SHOWN = 100
"""How many open questions a run is shown with; the first ones."""


class PlaceInQueue(Protocol):
    """Where a run waits that has not begun."""

    @property
    def position(self) -> int:
        """How many are before it."""


def problem_of(error: NexusError | None, events: Sequence[ChannelEvent]) -> dict[str, Any] | None:
    """Return the error that a run ended with, or that the latest of these events says it is blocked by, as shown."""
    if error is None and events and events[-1].type == WORKFLOW_BLOCKED:
        error = events[-1].error
    return None if error is None else error.problem()


def shown_run(
    run_id: str, workflow: str, channel: str, status: RunStatus, started_at: float, finished_at: float | None, *,
    session_id: str | None, user_id: str | None, place: PlaceInQueue | None, result: Mapping[str, Any],
    error: Mapping[str, Any] | None, questions: Sequence[RunQuestion] = (), basis: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the members of a run; absent values are left out.

    The arguments are those of `Run`; ``place`` is its place in the queue of its key, or of durable work, ``result`` has
    the member ``result`` and its flags, if any, ``error`` is the problem that it ended with or is blocked by, and
    ``questions`` are its open ones.
    """
    members: dict[str, Any] = {
        "run_id": run_id,
        "workflow": workflow,
        "channel": channel,
        "status": str(status),
        "started_at": started_at,
    }
    if finished_at is not None:
        members["finished_at"] = finished_at
        members["duration"] = round(finished_at - started_at, 6)
    if session_id is not None:
        members["session_id"] = session_id
    if user_id is not None:
        members["user_id"] = user_id
    if place is not None and status in (RunStatus.BLOCKED, RunStatus.PENDING):
        members["position"] = place.position
        if isinstance(place, WorkPosition):
            members["waiting_for"] = str(place.reason)
    if questions and status is RunStatus.WAITING:
        members["questions"] = [question.to_dict() for question in questions[:QUESTIONS_SHOWN]]
    members |= {name: value for name, value in (basis or {}).items() if value}
    members |= result
    if error is not None:
        members["error"] = dict(error)
    return members
