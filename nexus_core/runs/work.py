"""The work of durable runs as a `RunEngine` queues it: whose it is, what it may take, and where it stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nexus_core.runs.journal import Journal

PRIORITIES = range(1, 6)
"""Priorities of work: 1 goes first. The numbers are those of Temporal."""

PRIORITY = 3
"""The priority of work where none is given."""


class Work(NamedTuple):
    """The work of one run, from its acceptance to its end.

    Attributes:
        run_id: The run.
        task: What ``perform`` gets, as JSON text.
        workflow: Name of the workflow.
        owner: The `Principal.identity` that it belongs to; None where authentication is off. Among work of the same
            priority, owners take turns.
        key: What `WorkLimits.key_concurrency` and ``key_rate`` count it under; None: it is not counted.
        priority: One of `PRIORITIES`. Work of a lower number goes first.
    """

    run_id: str
    task: bytes
    workflow: str
    owner: str | None = None
    key: str | None = None
    priority: int = PRIORITY


class Rate(NamedTuple):
    """How many runs may begin in any span of so many seconds."""

    runs: int
    seconds: float


class WorkLimits(NamedTuple):
    """How much of a workflow's work may be done at once and begun in a time, by all processes together.

    Attributes:
        concurrency: Runs at work at once.
        rate: Runs that begin.
        key_concurrency: Runs of one key at work at once.
        key_rate: Runs of one key that begin.
    """

    concurrency: int | None = None
    rate: Rate | None = None
    key_concurrency: int | None = None
    key_rate: Rate | None = None


class Offer(NamedTuple):
    """What a process offers to do of one workflow.

    Attributes:
        version: The version of its code, as this process has it. Work that `WorkBlocked` has put aside goes only to a
            process with the version that it was begun with.
        limits: What holds for its work everywhere.
    """

    version: str = ""
    limits: WorkLimits = WorkLimits()


Perform = Callable[[str, bytes, "Journal"], Awaitable[None]]
"""Does the work of a run: ``perform(run_id, task, journal)``, called on the platform's event loop.

When it returns, the run has ended, and its outcome is in the run store. When it raises or is cancelled, the run is to
be worked on again: by another process, or by this one after a pause. Where it raises `WorkBlocked`, only a process
with the version that the run was begun with may.
"""


class WorkBlocked(Exception):
    """Raised by ``perform``: a run can't go on with the code of this process."""


class Worker(NamedTuple):
    """How a process works.

    Attributes:
        perform: Does the work.
        offers: Returns what it works on now, by the names of workflows. It may be called from any thread.
        concurrency: Maximum number of runs it works on at once.
    """

    perform: Perform
    offers: Callable[[], Mapping[str, Offer]]
    concurrency: int = 10


class WaitReason(StrEnum):
    """Why a run's work has not begun."""

    TURN = "turn"
    """Other runs are before it."""
    CONCURRENCY = "concurrency"
    """As many runs of the workflow are at work as may be."""
    RATE = "rate"
    """As many runs of the workflow have begun as may in this time."""
    KEY_CONCURRENCY = "key_concurrency"
    KEY_RATE = "key_rate"
    NO_WORKER = "no_worker"
    """No process that lives works on its workflow."""
    VERSION = "version"
    """No process that lives has the version of the code that it was begun with."""


class WorkPosition(NamedTuple):
    """Where work stands that has not begun.

    Attributes:
        position: How many go before it, so that 0 is the next one: about, where others come and go.
        reason: Why it has not begun.
    """

    position: int
    reason: WaitReason


class Beginning(NamedTuple):
    """The journal that a run begins with: the first outcomes of another run.

    Attributes:
        run_id: The other run.
        places: How many outcomes are taken.
    """

    run_id: str
    places: int
