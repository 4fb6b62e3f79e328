"""Workflows, runs and sessions as MCP resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from nexus_core import jsontext
from nexus_core.errors import NotFound
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_core import Workflow
    from nexus_core.app.view import CallerView

WORKFLOWS = "nexus://workflows/"
RUNS = "nexus://runs/"
SESSIONS = "nexus://sessions/"
EVENTS = "nexus://events"
EVENTS_SHOWN = 200
"""Events in one result."""

LONGEST = 512
"""Characters of a URI in an error: enough for a workflow's name with every character percent-encoded."""

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
    {
        "uriTemplate": EVENTS + "{?after}",
        "name": "events",
        "description": "Events of your runs and sessions after an event id: the `last` of an earlier result. Without "
        "it, the current event id.",
        "mimeType": _JSON,
    },
]


def entry(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow as the protocol's ``Resource`` object."""
    return {
        "uri": WORKFLOWS + workflow.name,
        "name": workflow.name,
        "description": workflow.help,
        "mimeType": _JSON,
    }


async def read(view: CallerView, uri: str) -> dict[str, Any]:
    """Return a resource as the protocol's ``ReadResourceResult`` object.

    Args:
        view: The view of the caller.
        uri: The resource.

    Raises:
        NotFound: The resource does not exist, or belongs to another caller.
    """
    try:
        content = await _content(view, uri)
    except NotFound as exc:
        exc.details |= {"uri": printable(uri, LONGEST)}  # SEP-2164
        raise
    text = jsontext.encode(content).decode()
    return {"contents": [{"uri": uri, "mimeType": _JSON, "text": text}], "resultType": "complete"}


async def _content(view: CallerView, uri: str) -> dict[str, Any]:
    if uri.startswith(WORKFLOWS):
        return (await view.workflow_of_tool(unquote(uri.removeprefix(WORKFLOWS)))).describe()
    if uri.startswith(RUNS):
        return (await view.run(unquote(uri.removeprefix(RUNS)))).to_dict()
    if uri.startswith(SESSIONS):
        return (await view.session(unquote(uri.removeprefix(SESSIONS)))).to_dict()
    if uri.partition("?")[0] == EVENTS:
        return await _events(view, uri)
    raise NotFound(f"Resource not found; URIs begin with {WORKFLOWS}, {RUNS}, {SESSIONS} or {EVENTS}.")


async def _events(view: CallerView, uri: str) -> dict[str, Any]:
    """Return the events after the one that a URI names, and the id for the next request."""
    query = parse_qs(uri.partition("?")[2], keep_blank_values=True)
    follower = await view.events(query["after"][-1] if "after" in query else None)
    try:
        last, events = follower.position, await follower.ready(EVENTS_SHOWN)
        last = follower.cursor or next((event.id for event in reversed(events) if event.id), last)
    finally:
        follower.close()
    told = [event.to_dict() | ({"id": event.id} if event.id else {}) for event in events]
    return {"events": told, "last": last}
