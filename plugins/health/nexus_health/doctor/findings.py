"""`Finding`: one result of an examination."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of an examination.

    Attributes:
        section: ``python``, ``packages``, ``plugins``, ``options``, ...
        subject: What was examined.
        text: The result.
        level: The severity.
        advice: How to fix it.
    """

    section: str
    subject: str
    text: str
    level: Level = Level.OK
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without empty members."""
        members = {"section": self.section, "subject": self.subject, "level": str(self.level), "text": self.text}
        return members | ({"advice": self.advice} if self.advice else {})


def warning(section: str, subject: str, text: str, advice: str) -> Finding:
    """Return a warning."""
    return Finding(section, subject, text, Level.WARNING, advice)


def problem(section: str, subject: str, text: str, advice: str) -> Finding:
    """Return a problem."""
    return Finding(section, subject, text, Level.PROBLEM, advice)
