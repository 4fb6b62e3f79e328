from __future__ import annotations

from datetime import datetime

import pytest
from nexus_schedules.times import Times, utc

from nexus_core import ConfigurationError


def instant(text):
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def following(expression, zone, start, count):
    times, moment, found = Times(expression, zone), instant(start), []
    for _ in range(count):
        moment = times.after(moment)
        found.append(utc(moment)[:16])
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        # set forward at 01:00 UTC: 02:30 does not exist
        ("30 2 * * *", "Europe/Zurich", "2026-03-28 12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        ("15,45 2 * * *", "Europe/Zurich", "2026-03-29 00:00", ["2026-03-29T01:00", "2026-03-30T00:15"]),
        # set back at 01:00 UTC: 02:30 comes twice
        ("30 2 * * *", "Europe/Zurich", "2026-10-24 12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("30 2 * * *", "Europe/Zurich", "2026-10-25 01:10", ["2026-10-26T01:30"]),
        ("*/30 * * * *", "Europe/Zurich", "2026-10-24 23:59",
         ["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30"]),
        # half an hour, on the first Sunday of October forward from 02:00 (15:30 UTC), of April back
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02 16:00", ["2026-10-03T15:30", "2026-10-04T15:15"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04 00:00", ["2026-04-04T14:45", "2026-04-05T15:15"]),
        ("0 0 29 2 *", "UTC", "2026-01-01 00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0 6 * * 1-5", "Europe/Zurich", "2026-05-01 12:00", ["2026-05-04T04:00", "2026-05-05T04:00"]),
    ],
)  # fmt: skip
def test_next_times(expression, zone, start, expected):
    assert following(expression, zone, start, len(expected)) == expected


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "15,45 2 * * *", "*/30 * * * *", "0 */2 * * *", "0 3 * * *"])
def test_past_times_are_those_that_were_next(day, expression):
    times = Times(expression, "Europe/Zurich")
    start, end = instant(f"{day} 00:00") - 40_000, instant(f"{day} 00:00") + 90_000
    every, moment = [], start
    while (moment := times.after(moment)) <= end:
        every.append(moment)
    for until in range(int(start), int(end), 3600):
        expected = [moment for moment in every if moment <= until]
        assert times.between(start, until, 1000) == expected
        assert times.between(start, until, 2) == expected[-2:]


@pytest.mark.parametrize(
    ("expression", "zone", "message"),
    [
        ("61 6 * * *", "UTC", "the expression '61 6 \\* \\* \\*' is wrong: bad minute"),
        ("0 6 * * FRX", "UTC", "bad day-of-week"),
        ("* * * * * *", "UTC", "five fields"),
        ("", "UTC", "five fields"),
        ("0 0 30 2 *", "UTC", "bad day-of-month"),
        ("0 6 * * *", "Europe/Zürich", "no time zone 'Europe/Zürich'; did you mean 'Europe/Zurich'"),
        ("0 6 * * *", "../etc/passwd", "no time zone"),
    ],
)
def test_wrong_arguments(expression, zone, message):
    with pytest.raises(ConfigurationError, match=message):
        Times(expression, zone)
