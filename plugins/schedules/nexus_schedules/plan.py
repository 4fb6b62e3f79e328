"""What is to be done for a schedule now: the rules of catch-up and overlap, without a clock and without a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from nexus_core.workflows.schedule import CatchUp, Overlap
    from nexus_schedules.times import Times

LATE_SECONDS = 60.0
"""A time that is so late was missed: no process ran. What is less late is started as if in time."""

MOST = 100
"""Most times that are made up for, or wait for the run before."""


class StartedRun(msgspec.Struct, frozen=True):
    """A run that was started and may go on.

    Attributes:
        run_id: Its id.
        process: The process that started it.
    """

    run_id: str
    process: str


class ScheduleState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of a schedule, which processes share.

    Attributes:
        handled: The latest time that was dealt with: no time up to it is started again.
        is_paused: Whether nothing is started.
        active: The runs that may go on.
        waiting: The times that wait for the run before.
        last_due, last_run: The time that was started last, and its run.
        error: Why that could not be started; empty otherwise.
    """

    handled: float
    is_paused: bool = False
    active: tuple[StartedRun, ...] = ()
    waiting: tuple[float, ...] = ()
    last_due: float | None = None
    last_run: str = ""
    error: str = ""


class DuePlan(msgspec.Struct, frozen=True):
    """What is to be done.

    Attributes:
        record: The state afterwards, without the run that is started.
        start: The time whose run is to be started; None for none.
        cancel: The runs to cancel before.
        skipped: How many times are left out because of the run before.
        missed: How many missed times are not made up for.
    """

    record: ScheduleState
    start: float | None = None
    cancel: tuple[StartedRun, ...] = ()
    skipped: int = 0
    missed: int = 0


def plan(record: ScheduleState, now: float, times: Times, overlap: Overlap, catch_up: CatchUp) -> DuePlan:
    """Return what is to be done at a moment.

    Args:
        record: The state, with the runs alone that go on.
        now: Seconds since the epoch.
        times: When the schedule is due.
        overlap: See `Schedule`.
        catch_up: See `Schedule`.
    """
    due = times.between(record.handled, now, MOST)
    if due:
        record = msgspec.structs.replace(record, handled=due[-1])
    if record.is_paused:
        return DuePlan(record)
    in_time = [each for each in due if each >= now - LATE_SECONDS]
    wanted = {"all": due, "last": due[-1:], "none": in_time}[catch_up]
    missed = len(due) - len(wanted)
    replace = msgspec.structs.replace
    if overlap == "cancel":
        if not wanted:
            return DuePlan(record, missed=missed)
        return DuePlan(replace(record, active=()), wanted[-1], record.active, len(wanted) - 1, missed)
    skipped = 0
    if overlap == "skip" and record.active:
        skipped, wanted = len(wanted), []
    waiting = [*record.waiting, *wanted]
    start = waiting.pop(0) if waiting and not record.active else None
    skipped += max(0, len(waiting) - MOST)
    return DuePlan(replace(record, waiting=tuple(waiting[:MOST])), start, (), skipped, missed)
