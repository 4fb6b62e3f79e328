"""`Finding`: one thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: What it belongs to: ``python``, ``packages``, ``plugins``, ``options``, ...
        subject: The thing.
        text: What it is.
        level: How that is.
        advice: How to mend it.
    """

    section: str
    subject: str
    text: str
    level: Level = Level.OK
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, without empty members."""
        members = {"section": self.section, "subject": self.subject, "level": str(self.level), "text": self.text}
        return members | ({"advice": self.advice} if self.advice else {})


def warning(section: str, subject: str, text: str, advice: str) -> Finding:
    """Return what may become a problem."""
    return Finding(section, subject, text, Level.WARNING, advice)


def problem(section: str, subject: str, text: str, advice: str) -> Finding:
    """Return what is one."""
    return Finding(section, subject, text, Level.PROBLEM, advice)
