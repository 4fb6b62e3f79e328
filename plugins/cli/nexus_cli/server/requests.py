"""The request of a command line, in process and over the command-line port.

It is one JSON object: ``{"command": "execute", "workflow": "add", "params": {"a": 1}}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.errors import MalformedRequest
from nexus_core.jsontext import type_name
from nexus_core.runs.listing import FILTERS, QUESTION_FILTERS, STEP_RANGE
from nexus_core.server.caller import check_length
from nexus_core.text import nearest, printable

if TYPE_CHECKING:
    from collections.abc import Callable

MEMBERS: dict[str, tuple[str, ...]] = {
    "execute": ("workflow", "params", "by_data", "timeout", "wait", "events"),
    "list": (),
    "describe": ("workflow",),
    "runs.list": tuple(FILTERS),
    "runs.show": ("run_id",),
    "runs.steps": ("run_id", *STEP_RANGE),
    "runs.cancel": ("run_id",),
    "runs.retry": ("run_id",),
    "runs.fork": ("run_id", "from_step", "params"),
    "runs.retry_all": ("workflow", "status", "channel", "since", "until", "before", "limit", "batch", "dry_run"),
    "runs.follow": ("run_id", "after"),
    "runs.prune": ("dry_run",),
    "questions.list": tuple(QUESTION_FILTERS),
    "questions.of_run": ("run_id",),
    "questions.show": ("run_id", "number"),
    "questions.answer": ("run_id", "number", "answer"),
    "sessions.create": (),
    "sessions.show": ("session_id",),
    "sessions.set": ("session_id", "state", "version"),
    "sessions.renew": ("session_id",),
    "sessions.revoke": ("session_id",),
    "events.follow": ("after", "session_id"),
}
"""Each command, and the members of its request."""

PARAMS = ("params",)
"""The path of the parameters in a request."""

LARGEST_NUMBER = 10**9 - 1
"""Largest number of a question."""

LONGEST_WAIT = 3600.0
"""Maximum of ``wait``, in seconds."""


class Request:
    """A request whose member names are valid; each method checks its member's type.

    Raises:
        MalformedRequest: It is not an object, or its command or a member is unknown.
    """

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise MalformedRequest(f"The request must be a JSON object, not {type_name(value)}.")
        command = value.get("command")
        if not isinstance(command, str) or command not in MEMBERS:
            raise MalformedRequest(f"command must be one of {', '.join(MEMBERS)}.")
        for name in value:
            if name != "command" and name not in MEMBERS[command]:
                near = nearest(name, MEMBERS[command])
                hint = f' Did you mean "{near}"?' if near else ""
                raise MalformedRequest(f'Unknown member "{printable(name)}" of {command}.{hint}')
        self.command: str = command
        self._members = value

    def text(self, name: str) -> str:
        """Return a required string."""
        value = self._members.get(name)
        if not isinstance(value, str):
            raise MalformedRequest(f"{name} must be a string, not {_kind(self._members, name)}.")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a short string, or None."""
        if self._members.get(name) is None:
            return None
        return check_length(name, self.text(name))

    def seconds(self, name: str, fits: Callable[[float], bool], rule: str) -> float | None:
        """Return a number of seconds, or None.

        Args:
            name: The member.
            fits: Whether a number is allowed.
            rule: The same in words, for the error.
        """
        value = self._members.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
            raise MalformedRequest(f"{name} must be a number of seconds {rule}.")
        return float(value)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number within bounds."""
        value = self._members.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise MalformedRequest(f"{name} must be a whole number from {low} to {high}.")
        return value

    def optional_number(self, name: str) -> int | None:
        """Return a whole number, or None."""
        value = self._members.get(name)
        if value is not None and type(value) is not int:
            raise MalformedRequest(f"{name} must be a whole number, not {_kind(self._members, name)}.")
        return value

    def object(self, name: str) -> dict[str, Any]:
        """Return a required object."""
        value = self._members.get(name)
        if not isinstance(value, dict):
            raise MalformedRequest(f"{name} must be an object, not {_kind(self._members, name)}.")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, false by default."""
        value = self._members.get(name, False)
        if not isinstance(value, bool):
            raise MalformedRequest(f"{name} must be a boolean, not {_kind(self._members, name)}.")
        return value

    def required(self, name: str) -> Any:
        """Return a required value of any type."""
        if name not in self._members:
            raise MalformedRequest(f"{name} is missing.")
        return self._members[name]

    def any(self, name: str) -> Any:
        """Return a value of any type, or None."""
        return self._members.get(name)


def _kind(members: dict[str, Any], name: str) -> str:
    return type_name(members[name]) if name in members else "missing"
