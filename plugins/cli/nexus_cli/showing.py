"""``nexus list``, ``describe`` and ``runs``: what there is, as tables for people and JSON for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.backend import request_of

if TYPE_CHECKING:
    from nexus_cli.state import State

_decode = msgspec.json.Decoder().decode


def workflows(state: State) -> None:
    """Show the workflows."""
    reply = state.backend().call(request_of("list"), state.options)
    if not state.output.pretty:
        state.output.json(reply)
        return
    found = _decode(reply)["workflows"]
    if not found:
        state.output.line("No workflow is registered.")
        return
    state.output.table(
        ("WORKFLOW", "DESCRIPTION"), ((each["name"], each["description"].partition("\n")[0]) for each in found)
    )


def workflow(state: State, name: str) -> None:
    """Show one workflow."""
    reply = state.backend().call(request_of("describe", workflow=name), state.options)
    if not state.output.pretty:
        state.output.json(reply)
        return
    from nexus_cli.workflow_help import description

    description(state.output, _decode(reply))


def runs(state: State, **filters: Any) -> None:
    """Show runs, newest first."""
    reply = state.backend().call(request_of("runs.list", **filters), state.options)
    if not state.output.pretty:
        state.output.json(reply)
        return
    found = _decode(reply)["runs"]
    if not found:
        state.output.line("There are no runs.")
        return
    rows = ([each["run_id"], each["workflow"], each["status"], _age(each["started_at"]), _took(each)] for each in found)
    state.output.table(("RUN", "WORKFLOW", "STATUS", "STARTED", "TOOK"), rows)


def run(state: State, command: str, run_id: str) -> None:
    """Show one run."""
    reply = state.backend().call(request_of(command, run_id=run_id), state.options)
    if state.output.pretty:
        state.output.value(_decode(reply))
    else:
        state.output.json(reply)


def _age(started_at: float) -> str:
    seconds = max(0.0, time.time() - started_at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _took(run: dict[str, Any]) -> str:
    return f"{run['duration']:.2f} s" if "duration" in run else ""
