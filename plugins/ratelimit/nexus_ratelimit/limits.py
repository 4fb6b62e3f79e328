"""`Limit`: how many calls in which time, and what a workflow's metadata says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError
from nexus_core.options.sources import MAX_SECONDS

if TYPE_CHECKING:
    from nexus_core import Workflow

METADATA = "rate_limit"
"""What ``metadata`` calls a workflow's own limit."""

MAX_CALLS = 1_000_000_000
MIN_SECONDS = 0.001
MINUTE = 60.0
_UNITS = {"second": 1.0, "minute": MINUTE, "hour": 3600.0, "day": 86_400.0}
_TEXT = re.compile(rf"([0-9]{{1,10}}) ?/ ?({'|'.join(_UNITS)})")
_FORMS = (
    f"must be a whole number of calls in a minute, from 1 to {MAX_CALLS}; a text such as 10/second "
    f"(or {', '.join(list(_UNITS)[1:])}); or an object with limit and window in seconds"
)


class Limit:
    """So many calls in so many seconds.

    Args:
        calls: How many.
        window: The seconds.
        rule: What allows no more, for the caller that is refused.

    Attributes:
        length: The window in nanoseconds.
        message: What the caller is told.
    """

    __slots__ = ("calls", "length", "message", "window")

    def __init__(self, calls: int, window: float, rule: str) -> None:
        self.calls = calls
        self.window = window
        self.length = round(window * 1_000_000_000)
        self.message = f"{rule} allows {calls} in {window:.12g} second{'' if window == 1 else 's'}."


Budget = tuple[str, Limit]
"""What one caller may do: a key that tells it from every other budget, and its size."""


def limit_of(workflow: Workflow) -> Limit | None:
    """Return a workflow's own limit for each caller (``metadata["rate_limit"]``), or None.

    Raises:
        ConfigurationError: The metadata is wrong.
    """
    given = workflow.metadata.get(METADATA)
    if given is None:
        return None
    calls, window = _read(given)
    if type(calls) is not int or not 1 <= calls <= MAX_CALLS:
        raise _wrong(workflow, given)
    if type(window) not in (int, float) or not MIN_SECONDS <= window <= MAX_SECONDS:
        raise _wrong(workflow, given)
    return Limit(calls, float(window), f'Too many calls: the {METADATA} of the workflow "{workflow.name}"')


def _read(given: Any) -> tuple[Any, Any]:
    """Return calls and seconds as they are written, None for what can't be read."""
    if isinstance(given, str):
        match = _TEXT.fullmatch(given.strip())
        return (int(match[1]), _UNITS[match[2]]) if match else (None, None)
    if isinstance(given, Mapping):
        known = not given.keys() - {"limit", "window"}
        return (given.get("limit") if known else None), given.get("window", MINUTE)
    return given, MINUTE


def _wrong(workflow: Workflow, given: Any) -> ConfigurationError:
    return ConfigurationError(f'The metadata {METADATA} of the workflow "{workflow.name}" {_FORMS}, not {given!r:.80}.')
