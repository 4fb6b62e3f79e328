"""Workflows and runs as MCP resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from nexus_core import jsontext
from nexus_core.errors import NotFound

if TYPE_CHECKING:
    from nexus_core import Nexus, Workflow

WORKFLOWS = "nexus://workflows/"
RUNS = "nexus://runs/"
_JSON = "application/json"

TEMPLATES = [
    {
        "uriTemplate": WORKFLOWS + "{name}",
        "name": "workflow",
        "description": "A workflow: its description, its schemas and its metadata.",
        "mimeType": _JSON,
    },
    {
        "uriTemplate": RUNS + "{run_id}",
        "name": "run",
        "description": "A run: its status, and its result or error once it has ended.",
        "mimeType": _JSON,
    },
]


def entry(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow as the protocol's ``Resource`` object."""
    return {
        "uri": WORKFLOWS + workflow.name,
        "name": workflow.name,
        "description": workflow.description,
        "mimeType": _JSON,
    }


def read(nexus: Nexus, uri: str) -> dict[str, Any]:
    """Return a resource as the protocol's ``ReadResourceResult`` object.

    Raises:
        NexusError: There is no such resource.
    """
    try:
        content = _content(nexus, uri)
    except NotFound as exc:
        exc.details |= {"uri": uri}  # SEP-2164
        raise
    text = jsontext.encode(content).decode()
    return {"contents": [{"uri": uri, "mimeType": _JSON, "text": text}], "resultType": "complete"}


def _content(nexus: Nexus, uri: str) -> dict[str, Any]:
    if uri.startswith(WORKFLOWS):
        return nexus.workflows.get(unquote(uri.removeprefix(WORKFLOWS))).describe()
    if uri.startswith(RUNS):
        return nexus.runs.get(unquote(uri.removeprefix(RUNS))).to_dict()
    raise NotFound(f"There is no such resource; {WORKFLOWS} and {RUNS} are the beginnings of those there are.")
