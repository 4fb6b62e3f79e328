"""`Limit`: a number of calls in a window of time, and the one in a workflow's metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError
from nexus_core.options.settings import MAX_SECONDS
from nexus_ratelimit.settings import MAX_CALLS

if TYPE_CHECKING:
    from nexus_core import Workflow

METADATA = "rate_limit"
"""Metadata key of a workflow's own limit."""

MIN_SECONDS = 0.001
MINUTE = 60.0
_UNITS = {"second": 1.0, "minute": MINUTE, "hour": 3600.0, "day": 86_400.0}
_TEXT = re.compile(rf"([0-9]{{1,10}}) ?/ ?({'|'.join(_UNITS)})")
_FORMS = (
    f"must be a whole number of calls in a minute, from 1 to {MAX_CALLS}; a text such as 10/second "
    f"(or {', '.join(list(_UNITS)[1:])}); or an object with limit and window in seconds"
)


class Limit:
    """A number of calls in a window of time.

    Args:
        calls: Maximum number of calls.
        window: Length of the window in seconds.
        rule: Beginning of the error message: what is exceeded, and the option or metadata that sets it.

    Attributes:
        length: The window in nanoseconds.
        message: The error message.
    """

    __slots__ = ("calls", "length", "message", "window")

    def __init__(self, calls: int, window: float, rule: str) -> None:
        self.calls = calls
        self.window = window
        self.length = round(window * 1_000_000_000)
        self.message = f"{rule} allows {calls} in {window:.12g} second{'' if window == 1 else 's'}."


Budget = tuple[str, Limit]
"""One caller's use of a limit: the key of its counter, and the limit."""


def limit_of(workflow: Workflow) -> Limit | None:
    """Return a workflow's own limit for each caller (``metadata["rate_limit"]``), or None.

    Raises:
        ConfigurationError: The metadata is invalid.
    """
    given = workflow.metadata.get(METADATA)
    if given is None:
        return None
    calls, window = _read(given)
    if type(calls) is not int or not 1 <= calls <= MAX_CALLS:
        raise _invalid(workflow, given)
    if type(window) not in (int, float) or not MIN_SECONDS <= window <= MAX_SECONDS:
        raise _invalid(workflow, given)
    return Limit(calls, float(window), f'Too many calls: the {METADATA} of the workflow "{workflow.name}"')


def _read(given: Any) -> tuple[Any, Any]:
    """Return calls and seconds as given, None for those that can't be parsed."""
    if isinstance(given, str):
        match = _TEXT.fullmatch(given.strip())
        return (int(match[1]), _UNITS[match[2]]) if match else (None, None)
    if isinstance(given, Mapping):
        known = not given.keys() - {"limit", "window"}
        return (given.get("limit") if known else None), given.get("window", MINUTE)
    return given, MINUTE


def _invalid(workflow: Workflow, given: Any) -> ConfigurationError:
    return ConfigurationError(f'The metadata {METADATA} of the workflow "{workflow.name}" {_FORMS}, not {given!r:.80}.')
