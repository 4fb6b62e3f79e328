"""``nexus doctor``. The command line brings typer: nothing else may import this module."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import typer  # noqa: TC002  (typer itself reads the annotation)

from nexus_core import Command
from nexus_core.schema.report import printable
from nexus_health.doctor.examination import of_application, of_server
from nexus_health.doctor.findings import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.PROBLEM: "PROBLEM"}
STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
LONGEST = 500
"""Characters of a text that are shown."""


def commands() -> list[Command]:
    """Return the command."""
    return [Command("doctor", doctor, "Look at everything that may be wrong, and say how to mend it.")]


def doctor(context: typer.Context) -> int:
    """Look at everything that may be wrong, and say how to mend it. Exit code 1 if there is a problem.

    With --app, the application is started in this process, without listening, and its checks run once. With --connect
    URL, the address of its API, a running server is asked how it is.
    """
    state = context.obj
    with contextlib.redirect_stdout(sys.stderr):  # what an application prints is not what it was asked for
        if state.options.connect:
            findings = list(of_server(state.options.connect, state.options.token))
        else:
            findings = list(of_application(state))
    show(state.output, findings)
    return 1 if any(each.level is Level.PROBLEM for each in findings) else 0


def show(output: Any, findings: Sequence[Finding]) -> None:
    """Write findings: JSON for programs that ask for it, a table on a terminal, lines elsewhere."""
    counts = Counter(str(each.level) for each in findings)
    if output.as_json:
        value = {"healthy": not counts["problem"], "problems": counts["problem"], "warnings": counts["warning"],
                 "findings": [each.to_dict() for each in findings]}  # fmt: skip
        output.json(msgspec.json.encode(value))
        return
    section = ""
    for each in findings:
        if each.section != section:
            section = each.section
            _heading(output, section)
        _entry(output, each)
    output.line("")
    output.line(f"{_count(counts['problem'], 'problem')}, {_count(counts['warning'], 'warning')}")


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _heading(output: Any, section: str) -> None:
    output.line(section if not output.pretty else f"\n{section.upper()}")


def _entry(output: Any, finding: Finding) -> None:
    subject, text = printable(finding.subject, 100), printable(finding.text, LONGEST)
    mark = MARKS[finding.level]
    if output.pretty:
        from rich.text import Text

        console = output.console(output.stdout)
        console.print(Text.assemble(f"  {subject:<24} ", (f"{mark:<8}", STYLES[finding.level]), f" {text}"))
        if finding.advice:
            console.print(Text(f"  {'':<24} {'':<8} -> {printable(finding.advice, LONGEST)}", style="cyan"))
        return
    output.line(f"  {mark:<8} {subject}: {text}")
    if finding.advice:
        output.line(f"           -> {printable(finding.advice, LONGEST)}")
