"""``nexus doctor``. It imports typer, which the command line provides: import this module nowhere else."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
import typer  # noqa: TC002  (typer itself reads the annotation)

from nexus_core import Command
from nexus_core.text import printable
from nexus_health.doctor.examination import examine_application, examine_server
from nexus_health.doctor.findings import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.PROBLEM: "PROBLEM"}
STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
LONGEST = 500
"""Characters of a text, at most."""

SUBJECT_WIDTH = 24


def commands() -> list[Command]:
    """Return the command."""
    return [Command("doctor", doctor, "Find common problems, and how to fix them.")]


def doctor(context: typer.Context) -> int:
    """Find common problems, and how to fix them. Exit code 1 if there is a problem.

    With --app, the application is started in this process without listening, and its checks run once. With --connect
    URL, a running server is examined.
    """
    state = context.obj
    with contextlib.redirect_stdout(sys.stderr):  # output of the application is not part of the report
        if state.options.connect:
            findings = list(examine_server(state.options.connect, state.options.token))
        else:
            findings = list(examine_application(state))
    show(state.output, findings)
    return 1 if any(each.level is Level.PROBLEM for each in findings) else 0


def show(output: Any, findings: Sequence[Finding]) -> None:
    """Write findings as JSON if asked for, as a table on a terminal, else as lines."""
    counts = Counter(str(each.level) for each in findings)
    if output.as_json:
        value = {"healthy": not counts["problem"], "problems": counts["problem"], "warnings": counts["warning"],
                 "findings": [each.to_dict() for each in findings]}  # fmt: skip
        output.json(msgspec.json.encode(value))
        return
    for title, group in _sections(findings):
        if output.pretty:
            _table(output, title, group)
        else:
            _lines(output, title, group)
    output.line("")
    output.line(f"{_count(counts['problem'], 'problem')}, {_count(counts['warning'], 'warning')}")


def _sections(findings: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Yield titles and findings: first what is ok, by section, then warnings, then problems."""
    fine = [each for each in findings if each.level is Level.OK]
    yield from ((section, list(group)) for section, group in groupby(fine, key=lambda each: each.section))
    for level in (Level.WARNING, Level.PROBLEM):
        if found := [replace(each, subject=_place(each)) for each in findings if each.level is level]:
            yield f"{level}s", found


def _place(finding: Finding) -> str:
    """Return section and subject of a finding."""
    return f"{finding.section}, {finding.subject}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _lines(output: Any, section: str, findings: Iterable[Finding]) -> None:
    output.line(section)
    for each in findings:
        subject, text, advice = _texts(each)
        output.line(f"  {MARKS[each.level]:<8} {subject}: {text}")
        if advice:
            output.line(f"           -> {advice}")


def _table(output: Any, section: str, findings: Iterable[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False, title=section.upper(), title_justify="left")
    table.title_style = "bold"
    table.add_column(width=SUBJECT_WIDTH, overflow="fold")
    table.add_column(width=len(MARKS[Level.PROBLEM]), no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        subject, text, advice = _texts(each)
        shown = Text(text)
        if advice:
            shown.append(f"\n-> {advice}", style="cyan")
        table.add_row(Text(subject), Text(MARKS[each.level], style=STYLES[each.level]), shown)
    output.line("")
    output.console(output.stdout).print(table)


def _texts(finding: Finding) -> tuple[str, str, str]:
    """Return the texts of a finding without terminal control characters."""
    return printable(finding.subject), printable(finding.text, LONGEST), printable(finding.advice, LONGEST)
