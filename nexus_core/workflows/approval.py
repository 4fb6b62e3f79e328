"""`Approval`: who has to agree to each call of a workflow before it runs (``metadata["approval"]``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nexus_core.options.settings import MAX_SECONDS, is_time_limit
from nexus_core.runs.question import audience_of, check_text

_MEMBERS = {"to", "question", "timeout"}


class Approval(NamedTuple):
    """Who has to agree to each call.

    Attributes:
        to: Who is asked; see `Context.ask`.
        question: What is asked, or None for a question that names the workflow.
        timeout: Seconds after which the call is refused, or None for no limit.
    """

    to: str
    question: str | None = None
    timeout: float | None = None

    @classmethod
    def of(cls, value: Any) -> Approval | None:
        """Return what metadata say; None without a value.

        Raises:
            ValueError: They are invalid. The message says why, and begins after the name of the key.
        """
        if value is None:
            return None
        members = {"to": value} if isinstance(value, str) else value
        if not isinstance(members, Mapping) or "to" not in members or not members.keys() <= _MEMBERS:
            raise ValueError("must be 'permission:NAME', 'user:ID', 'caller', or an object with to, question, timeout")
        approval = cls(**members)
        try:
            audience_of(approval.to, None)
            if approval.question is not None:
                check_text(approval.question)
        except (TypeError, ValueError) as exc:
            raise ValueError(str(exc)) from None
        if approval.timeout is not None and not is_time_limit(approval.timeout):
            raise ValueError(f"timeout must be a number of seconds above 0 and at most {MAX_SECONDS:.0f}")
        return approval
