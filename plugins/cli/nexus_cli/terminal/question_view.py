"""A question of a run as text for a terminal: control characters are escaped, long lines are wrapped."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, TextIO

from nexus_core.text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_cli.terminal.output import Output

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(seconds: float) -> str:
    """Return a length of time in its largest unit, such as ``3 h``."""
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{max(0.0, seconds) / size:.0f} {unit}"


def left(expires_at: float | None) -> str:
    """Return how long a question can be answered yet; "" without a limit."""
    if expires_at is None:
        return ""
    seconds = expires_at - time.time()
    return f"in {span(seconds)}" if seconds > 0 else "expired"


def show_question(output: Output, stream: TextIO, question: dict[str, Any]) -> None:
    """Write a question: its text, its details, who may answer it and until when, and what became of it."""
    console = output.console(stream)
    console.print(escaped(question["question"], keep="\n"), style="bold")
    for line in _facts(question):
        console.print(f"  {line}", style="dim")
    for name, value in (question.get("details") or {}).items():
        console.print(f"  {escaped(name)}: {_value(value)}")


def _facts(question: dict[str, Any]) -> Iterator[str]:
    yield escaped(f"question {question['number']} of run {question['run_id']} ({question['workflow']})")
    yield escaped(f"to be answered by: {question['to']}")
    if question["status"] == "open":
        if (expires_at := question.get("expires_at")) is not None:
            yield f"until: {_clock(expires_at)} ({left(expires_at)})"
        return
    by = f" by {question['answered_by']}" if "answered_by" in question else ""
    at = f" at {_clock(question['closed_at'])}" if "closed_at" in question else ""
    yield escaped(f"{question['status']}{by}{at}")
    if "answer" in question:
        yield f"answer: {_value(question['answer'])}"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment))


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return escaped(text, keep="\n").replace("\n", "\n    ")
