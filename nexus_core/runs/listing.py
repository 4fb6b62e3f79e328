"""The filter of a listing of runs that a caller asks for, the same on every channel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nexus_core.errors import MalformedRequest
from nexus_core.runs.record import RunCursor, RunFilter
from nexus_core.runs.status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_PAGE = 1000
"""Largest number of runs in one page."""

DEFAULT_PAGE = 100

EVERYONE = "*"
"""The filter ``caller`` for the runs of all callers. No `Principal.identity` looks like it."""

FILTERS = {
    "workflow": "Only runs of this workflow.",
    "status": f"Only runs with this status: {', '.join(RunStatus)}.",
    "channel": "Only runs that came through this channel.",
    "since": "Only runs accepted at this time or later: ISO 8601, or seconds since the epoch.",
    "until": "Only runs accepted before this time: ISO 8601, or seconds since the epoch.",
    "text": "Only runs whose id begins or ends with these characters, at least 8.",
    "caller": "Runs of this caller: its identity, or * for all callers. Needs the permission nexus.operate.",
    "before": "The `next` of the previous page: only older runs.",
    "limit": f"Maximum number of runs, from 1 to {LARGEST_PAGE}.",
}
"""What callers may ask for, with its description. Channels name them alike."""


def filter_of(asked: Mapping[str, Any], largest: int = LARGEST_PAGE, default: int = DEFAULT_PAGE) -> RunFilter:
    """Return the filter of a request, for `CallerView.runs`. Its ``owner`` is the caller that is asked for, or None.

    Args:
        asked: Members of `FILTERS`, as text or as JSON values. None means any.
        largest: The largest page of the channel.
        default: The size of a page where the request has none.

    Raises:
        MalformedRequest: A value is invalid.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    status = given.get("status")
    if status is not None and status not in list(RunStatus):
        raise MalformedRequest(f"status must be one of {', '.join(RunStatus)}.")
    before = _text(given, "before")
    return RunFilter(
        _text(given, "caller"),
        _text(given, "workflow"),
        None if status is None else RunStatus(status),
        _text(given, "channel"),
        _time(given, "since"),
        _time(given, "until"),
        _text(given, "text"),
        None if before is None else RunCursor.parse(before),
        _limit(given.get("limit", default), largest),
    )


QUESTION_FILTERS = {
    "caller": "* for the questions to everybody. Needs the permission nexus.operate.",
    "after": "Only questions after these: the `next` of the previous page.",
    "limit": f"Maximum number of questions, from 1 to {LARGEST_PAGE}.",
}
"""What callers may ask for where they list open questions."""

STEP_RANGE = {
    "after": "Only steps with higher numbers: the `next` of the previous page.",
    "limit": f"Maximum number of steps, from 1 to {LARGEST_PAGE}.",
}
"""What callers may ask for where they read the steps of a run."""


def step_range(asked: Mapping[str, Any], largest: int = LARGEST_PAGE) -> tuple[int, int]:
    """Return after which number how many steps are asked for.

    Args:
        asked: Members of `STEP_RANGE`, as text or as JSON values. None is the default.
        largest: The largest page of the channel.

    Raises:
        MalformedRequest: A value is invalid.
    """
    after, limit = asked.get("after"), asked.get("limit")
    return (
        0 if after is None else _whole(after, "after", 0, 10**9),
        min(DEFAULT_PAGE, largest) if limit is None else _limit(limit, largest),
    )


def limit_of(asked: Any) -> int:
    """Return how many items of a page are asked for; None is the default.

    Raises:
        MalformedRequest: The value is invalid.
    """
    return DEFAULT_PAGE if asked is None else _limit(asked, LARGEST_PAGE)


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedRequest(f"{name} must be a string.")
    if value is not None and not value.isprintable():  # not every store takes it
        raise MalformedRequest(f"{name} must be printable text.")
    return value


def _limit(value: Any, largest: int) -> int:
    return _whole(value, "limit", 1, largest)


def _whole(value: Any, name: str, lowest: int, largest: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        value = int(value)
    if type(value) is not int:
        raise MalformedRequest(f"{name} must be a whole number.")
    if not lowest <= value <= largest:
        raise MalformedRequest(f"{name} must be from {lowest} to {largest}.")
    return value


def _time(given: Mapping[str, Any], name: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    try:
        seconds = float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError):
        try:
            moment = datetime.fromisoformat(str(value))
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            seconds = None
    if seconds is None or not 0 <= seconds < 1e11:
        raise MalformedRequest(f"{name} must be a time: ISO 8601 (UTC without an offset), or seconds since the epoch.")
    return seconds
