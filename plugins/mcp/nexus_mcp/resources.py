"""Workflows, runs and sessions as MCP resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from nexus_core import jsontext
from nexus_core.errors import NotFound, RunNotFound
from nexus_core.schema.report import printable

if TYPE_CHECKING:
    from nexus_core import Nexus, Session, Workflow

WORKFLOWS = "nexus://workflows/"
RUNS = "nexus://runs/"
SESSIONS = "nexus://sessions/"
LONGEST = 512
"""Characters of a URI that can be subscribed to: enough for every character of a workflow's name percent-encoded."""

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
    {
        "uriTemplate": SESSIONS + "{session_id}",
        "name": "session",
        "description": "A session: its state, and the channels that have used it.",
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


async def read(nexus: Nexus, uri: str) -> dict[str, Any]:
    """Return a resource as the protocol's ``ReadResourceResult`` object.

    Raises:
        NotFound: There is no such resource, or it belongs to somebody.
    """
    try:
        content = await _content(nexus, uri)
    except NotFound as exc:
        raise _naming(uri, exc) from None
    text = jsontext.encode(content).decode()
    return {"contents": [{"uri": uri, "mimeType": _JSON, "text": text}], "resultType": "complete"}


def check_subscription(uri: str) -> None:
    """Let pass what may be a resource, there or not: a session keeps its URI in memory.

    Raises:
        NotFound: It is too long for one.
    """
    if len(uri) > LONGEST:
        raise _naming(uri, NotFound("There is no such resource."))


def _naming(uri: str, exc: NotFound) -> NotFound:
    exc.details |= {"uri": printable(uri, LONGEST)}  # SEP-2164
    return exc


async def _content(nexus: Nexus, uri: str) -> dict[str, Any]:
    if uri.startswith(WORKFLOWS):
        return nexus.workflows.get(unquote(uri.removeprefix(WORKFLOWS))).describe()
    if uri.startswith(RUNS):
        return _run(nexus, unquote(uri.removeprefix(RUNS)))
    if uri.startswith(SESSIONS):
        store = await nexus.session_store()
        return _described(await store.get(unquote(uri.removeprefix(SESSIONS))))
    raise NotFound(f"There is no such resource; its URI begins with {WORKFLOWS}, {RUNS} or {SESSIONS}.")


def _run(nexus: Nexus, run_id: str) -> dict[str, Any]:
    run = nexus.runs.get(run_id)
    # Nobody is asked who they are when they read, so what belongs to a user is not shown at all.
    if run.user_id is not None:
        raise RunNotFound("There is no run of that id, or it is no longer kept.")
    return run.to_dict()


def _described(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "state": session.state,
        "active_channels": sorted(session.active_channels),
        "version": session.version,
        "created_at": session.created_at,
        "expires_at": session.expires_at,
    }
