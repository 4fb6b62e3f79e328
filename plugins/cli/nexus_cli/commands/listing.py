"""``nexus list``, ``describe`` and ``runs``: tables on a terminal, else JSON."""

from __future__ import annotations

import time
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.terminal.question_view import span

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_cli.context import CliContext

    Columns = dict[str, Callable[[dict[str, Any]], str]]

_decode = msgspec.json.Decoder().decode


def workflows(cli: CliContext) -> None:
    """Show the workflows."""
    show_table(
        cli, cli.call("list"), "workflows", "No workflow is registered.",
        {"WORKFLOW": itemgetter("name"), "DESCRIPTION": _in_a_line},
    )  # fmt: skip


def _in_a_line(workflow: dict[str, Any]) -> str:
    tool = f"[MCP tool {workflow['tool_name']}]" if "tool_name" in workflow else ""
    return " ".join(filter(None, (workflow["description"].partition("\n")[0], tool)))


def workflow(cli: CliContext, name: str) -> None:
    """Show one workflow."""
    reply = cli.call("describe", workflow=name)
    if not cli.output.pretty:
        cli.output.json(reply)
        return
    from nexus_cli.commands.workflow_help import description

    description(cli.output, _decode(reply))


def runs(cli: CliContext, **filters: Any) -> None:
    """Show runs, newest first."""
    reply = cli.call("runs.list", **filters)
    show_table(
        cli, reply, "runs", "No runs.",
        {"RUN": itemgetter("run_id"), "WORKFLOW": itemgetter("workflow"), "STATUS": itemgetter("status"),
         "STARTED": lambda each: _age(each["started_at"]), "TOOK": _took},
    )  # fmt: skip
    if cli.output.pretty and (following := _decode(reply).get("next")):
        cli.output.line(f"Older runs: --before {following}")


def steps(cli: CliContext, run_id: str, after: int, limit: int) -> None:
    """Show the steps of a run."""
    reply = cli.call("runs.steps", run_id=run_id, after=after, limit=limit)
    show_table(
        cli, reply, "steps", "No steps.",
        {"STEP": lambda each: str(each["number"]), "NAME": itemgetter("name"),
         "ATTEMPT": lambda each: str(each["attempt"]), "OUTCOME": lambda each: each.get("outcome", "running"),
         "STARTED": lambda each: _age(each["began_at"]), "TOOK": _took,
         "BYTES": lambda each: str(each.get("size") or ""), "ERROR": lambda each: each.get("error", "")},
    )  # fmt: skip
    if cli.output.pretty and (following := _decode(reply).get("next")):
        cli.output.line(f"Further steps: --after {following}")


def show_table(cli: CliContext, reply: bytes, member: str, none: str, columns: Columns) -> None:
    """Show the objects in a member of a reply, one column for each heading; without any, the text ``none``."""
    if not cli.output.pretty:
        cli.output.json(reply)
        return
    found = _decode(reply)[member]
    if found:
        cli.output.table([*columns], ([column(each) for column in columns.values()] for each in found))
    else:
        cli.output.line(none)


def _age(started_at: float) -> str:
    return f"{span(time.time() - started_at)} ago"


def _took(run: dict[str, Any]) -> str:
    return f"{run['duration']:.2f} s" if "duration" in run else ""
