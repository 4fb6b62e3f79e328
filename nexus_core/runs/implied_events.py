"""The events of a run that follow from the run itself, so that stores need not keep them one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.events.event import WORKFLOW_STARTED
from nexus_core.runs.record import RunEvent
from nexus_core.runs.status import STATUS_AFTER
from nexus_core.runs.stored_text import stored_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core.runs.record import RunState

_END = {status: event_type for event_type, status in STATUS_AFTER.items()}


def with_implied(state: RunState, stored: Sequence[RunEvent], after: int, limit: int) -> list[RunEvent]:
    """Return events of a run: the stored ones, with its start and its end where these are not among them.

    Args:
        state: The run, read before the events: all those before its end are among them then.
        stored: Its stored events with numbers above ``after``, in order, at most ``limit``.
        after: The number after which they are wanted.
        limit: How many at most.
    """
    events = [*stored]
    last = state.last_event if state.has_ended else 0
    first_stored = events[0].number if events else last or state.last_event + 1
    if after < 1 and first_stored == 2 and state.started_at is not None:
        events.insert(0, _event(state, 1, WORKFLOW_STARTED, state.started_at))
    if last > (events[-1].number if events else after) and state.finished_at is not None:
        added = {"error": state.problem, "duration": state.duration}
        events.append(_event(state, last, _END[state.status], state.finished_at, added))
    return events[:limit]


def _event(state: RunState, number: int, event_type: str, at: float, added: dict[str, Any] | None = None) -> RunEvent:
    record = state.record
    members = {"type": event_type, "time": at, "run_id": record.id, "channel": record.channel}
    members |= {"session_id": record.session_id, "workflow": record.workflow, **(added or {})}
    return RunEvent(number, stored_text({name: value for name, value in members.items() if value not in (None, "")}))
