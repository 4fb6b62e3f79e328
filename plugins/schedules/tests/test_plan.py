from __future__ import annotations

from datetime import datetime

import pytest
from nexus_schedules.plan import MOST, ScheduleState, StartedRun, plan
from nexus_schedules.times import Times


def instant(text):
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


NOON = instant("2026-05-01 12:00")
HOURLY = Times("0 * * * *", "UTC")
EARLIER = StartedRun("r1", "p1")


def hours(*numbers):
    return [NOON + 3600 * number for number in numbers]


@pytest.mark.parametrize(
    ("catch_up", "start", "waiting", "missed"),
    [("last", 3, [], 2), ("all", 1, [2, 3], 0), ("none", None, [], 3)],
)
def test_missed_times(catch_up, start, waiting, missed):
    found = plan(ScheduleState(NOON), hours(3.5)[0], HOURLY, "skip", catch_up)
    assert found.start == (None if start is None else hours(start)[0])
    assert [*found.record.waiting] == hours(*waiting)
    assert found.missed == missed
    assert found.record.handled == hours(3)[0]


def test_a_time_that_is_a_little_late_is_not_missed():
    assert plan(ScheduleState(NOON), hours(1)[0] + 59, HOURLY, "skip", "none").start == hours(1)[0]


def test_made_up_times_are_bounded():
    found = plan(ScheduleState(NOON), hours(1000)[0], HOURLY, "skip", "all")
    assert len(found.record.waiting) + 1 == MOST
    assert found.start == hours(1000 - MOST + 1)[0]


def test_overlap():
    record = ScheduleState(NOON, active=(EARLIER,))
    skipping = plan(record, hours(1)[0], HOURLY, "skip", "last")
    assert (skipping.start, skipping.skipped, skipping.record.active) == (None, 1, (EARLIER,))
    queueing = plan(record, hours(1)[0], HOURLY, "queue", "last")
    assert (queueing.start, queueing.record.waiting) == (None, (hours(1)[0],))
    cancelling = plan(record, hours(1)[0], HOURLY, "cancel", "last")
    assert (cancelling.start, cancelling.cancel, cancelling.record.active) == (hours(1)[0], (EARLIER,), ())


def test_what_waits_starts_when_the_run_before_has_ended():
    record = ScheduleState(hours(2)[0], waiting=(*hours(1, 2),))
    found = plan(record, hours(2)[0] + 5, HOURLY, "queue", "last")
    assert (found.start, found.record.waiting) == (hours(1)[0], (hours(2)[0],))


def test_clocks_that_jump():
    started = plan(ScheduleState(NOON), hours(1)[0], HOURLY, "skip", "last").record
    back = plan(started, hours(0.5)[0], HOURLY, "skip", "last")
    assert back.start is None
    assert plan(back.record, hours(1)[0] + 1, HOURLY, "skip", "last").start is None
    assert plan(back.record, hours(2)[0], HOURLY, "skip", "last").start == hours(2)[0]


def test_paused():
    found = plan(ScheduleState(NOON, is_paused=True), hours(3)[0], HOURLY, "skip", "all")
    assert (found.start, found.record.waiting, found.missed, found.record.handled) == (None, (), 0, hours(3)[0])
