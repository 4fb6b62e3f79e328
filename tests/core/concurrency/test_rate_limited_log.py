"""One line and a count, however often something is reported."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from nexus_core.concurrency.rate_limited_log import MAX_KEYS, RateLimitedLog, in_one_line
from nexus_core.testing import eventually

LOG = logging.getLogger("nexus_test.rate_limited")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reports(clock, caplog):
    caplog.set_level(logging.INFO, LOG.name)
    return RateLimitedLog(LOG, interval=10, clock=clock)


def test_the_first_is_logged_at_once_and_the_others_are_counted(reports, clock, caplog):
    for _ in range(1000):
        reports.log(logging.WARNING, "key", "%s is full", "disk")
    assert caplog.messages == ["disk is full"]
    clock.now += 12
    reports.log(logging.WARNING, "key", "%s is full", "disk")
    assert caplog.messages[1:] == ["disk is full (999 more in 12 s)"]
    clock.now += 10
    reports.log(logging.WARNING, "key", "%s is full", "disk")
    assert caplog.messages[2:] == ["disk is full"]


def test_keys_count_on_their_own(reports, caplog):
    for key in ("a", "b", "a"):
        reports.log(logging.ERROR, key, "no %s", key)
    assert caplog.messages == ["no a", "no b"]


def test_many_keys_take_no_memory(reports):
    for key in range(10 * MAX_KEYS):
        reports.log(logging.ERROR, key, "no")
    assert len(reports._since) == MAX_KEYS


def test_levels_that_are_off_count_nothing(reports, caplog):
    reports.log(logging.DEBUG, "key", "detail")
    reports.log(logging.INFO, "key", "news")
    assert caplog.messages == ["news"]


async def test_the_count_is_written_though_nothing_more_happens(caplog):
    caplog.set_level(logging.INFO, LOG.name)
    reports = RateLimitedLog(LOG, interval=0.05)
    for _ in range(5):
        reports.log(logging.WARNING, "key", "full")
    await eventually(lambda: len(caplog.messages) == 2)
    assert "(4 more in " in caplog.messages[1]
    await asyncio.sleep(0.1)
    assert len(caplog.messages) == 2


def test_threads(reports, caplog):
    def report():
        for _ in range(1000):
            reports.log(logging.WARNING, "key", "full")

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caplog.messages) == 1
    assert reports._since["key"][1] == 3999


def broken():
    raise ValueError("no\nsuch\x1b[31m table")


def test_failures_are_one_line_with_their_place(reports, caplog):
    for _ in range(3):
        try:
            broken()
        except ValueError as exc:
            reports.failure("handler", exc, "The handler %s raised", "audit")
    (message,) = caplog.messages
    assert message.startswith("The handler audit raised: ValueError: no")
    assert "test_rate_limited_log.py:" in message
    assert message.endswith("in broken)")
    assert "\n" not in message
    assert "\x1b" not in message
    assert caplog.records[0].exc_info is None


def test_the_traceback_is_there_for_who_wants_it(reports, caplog):
    caplog.set_level(logging.DEBUG, LOG.name)
    try:
        broken()
    except ValueError as exc:
        reports.failure("handler", exc, "The handler raised")
    assert caplog.records[-1].exc_info[0] is ValueError


def test_an_exception_that_was_never_raised():
    assert in_one_line(KeyError()) == "KeyError"
    assert in_one_line(ValueError("x" * 10_000)).startswith("ValueError: xxx")
    assert len(in_one_line(ValueError("x" * 10_000))) < 400
