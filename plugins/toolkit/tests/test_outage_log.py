from __future__ import annotations

import logging

import pytest
from nexus_toolkit.outage_log import QUIET_SECONDS, OutageLog

from nexus_core import BackendUnavailable


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.fixture
def make(clock):
    def make(**options):
        return OutageLog(logging.getLogger("test"), "The store is unavailable", "It is back", clock=clock, **options)

    return make


def test_an_outage_is_logged_once_however_long_it_is_and_its_end_once(make, lines):
    outage = make()
    for _ in range(5):
        outage.failed(BackendUnavailable("gone"))
    for _ in range(5):
        outage.succeeded()
    assert lines() == [("WARNING", "The store is unavailable: BackendUnavailable: gone"), ("INFO", "It is back")]


def test_outages_that_follow_each_other_are_logged_once_a_minute(make, lines, clock):
    outage = make()
    for _ in range(5):
        outage.failed("gone")
        outage.succeeded()
    assert len(lines()) == 2
    clock.now += QUIET_SECONDS
    outage.failed("gone")
    assert lines()[2:] == [("WARNING", "The store is unavailable: gone")]


def test_an_outage_that_goes_on_after_the_quiet_time_is_logged(make, lines, clock):
    outage = make()
    outage.failed("gone")
    outage.succeeded()
    outage.failed("gone again")
    clock.now += QUIET_SECONDS
    outage.failed("gone again")
    assert lines()[-1] == ("WARNING", "The store is unavailable: gone again")


def test_an_outage_has_ended_when_nothing_has_failed_for_a_while(make, lines, clock):
    outage = make(settle_seconds=1.0)
    for _ in range(3):
        outage.failed("gone")
        clock.now += 0.9
        outage.succeeded()
    assert len(lines()) == 1
    clock.now += 0.1
    outage.succeeded()
    assert lines()[-1] == ("INFO", "It is back")
