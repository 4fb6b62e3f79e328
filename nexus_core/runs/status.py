"""Where a run stands, its id, and how much of it is kept."""

from __future__ import annotations

import os
import time
from enum import StrEnum

from nexus_core.events.event import (
    WORKFLOW_ANSWERED,
    WORKFLOW_BLOCKED,
    WORKFLOW_CANCELLED,
    WORKFLOW_COMPLETED,
    WORKFLOW_EVENT,
    WORKFLOW_FAILED,
    WORKFLOW_OUTPUT,
    WORKFLOW_PROGRESS,
    WORKFLOW_QUESTION,
    WORKFLOW_STARTED,
)

EVENTS_KEPT = {
    WORKFLOW_PROGRESS: 256, WORKFLOW_EVENT: 256, WORKFLOW_QUESTION: 256, WORKFLOW_ANSWERED: 256,
    WORKFLOW_OUTPUT: 10_000,
}  # fmt: skip
"""How many events of a type are kept for each run; older ones make room. Every other type comes once or twice.

Who follows a run as it goes sees them all; who comes late, or is this far behind, finds the output in the result.
"""

EVENT_BYTES = 500
"""What an event of those types costs in memory in addition to its content, about: for `RunHistory`'s bound."""


class RunStatus(StrEnum):
    """Where a run stands.

    `WAITING` is a run whose work waits for an answer or a time, `BLOCKED` one that waits for its turn
    (``serial``), or that can't go on with the code of its workflow as it is now.
    """

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
"""The statuses of a run that has ended."""

STATUS_DURING = {
    WORKFLOW_STARTED: RunStatus.RUNNING,
    WORKFLOW_QUESTION: RunStatus.WAITING,
    WORKFLOW_ANSWERED: RunStatus.RUNNING,
    WORKFLOW_BLOCKED: RunStatus.BLOCKED,
}
"""What a run that goes on is after an event of these types."""

STATUS_AFTER = {
    WORKFLOW_COMPLETED: RunStatus.COMPLETED,
    WORKFLOW_FAILED: RunStatus.FAILED,
    WORKFLOW_CANCELLED: RunStatus.CANCELLED,
}


def new_run_id() -> str:
    """Return an id that sorts by time and can't be guessed: 48 bits of milliseconds, 80 random bits, in hex."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
