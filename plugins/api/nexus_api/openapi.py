"""The OpenAPI 3.1 document: one typed path for each workflow, and the general ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from nexus_api.translate import encode
from nexus_core.errors import (
    AuthenticationError,
    Conflict,
    HostNotAllowed,
    MalformedRequest,
    NexusError,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedEncoding,
    ValidationError,
    WorkflowFailed,
    WorkflowTimeout,
)
from nexus_core.plugins.discovery import core_version
from nexus_core.schema.references import move_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core import ChannelEvent, Platform, Workflow

_PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, in a sentence."},
        "code": {"type": "string", "description": "Stable; for programs."},
        "run_id": {"type": "string"},
        "retry_after": {"type": "number", "description": "Seconds."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer to the wrong field."},
                    "message": {"type": "string"},
                    "expected": {"type": "string"},
                    "nearest": {"type": "string", "description": "The known name that was probably meant."},
                },
                "required": ["pointer", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code"],
}
_MARKS = {
    "cached": {"type": "boolean", "description": "Whether the result comes from the cache."},
    "replayed": {"type": "boolean", "description": "Whether an earlier call with the same key gave it."},
}
_RUN = {
    "type": "object",
    "properties": {
        "run_id": {"type": "string"},
        "workflow": {"type": "string"},
        "channel": {"type": "string"},
        "status": {"enum": ["pending", "running", "completed", "failed", "cancelled"]},
        "started_at": {"type": "number", "description": "Seconds since the epoch."},
        "finished_at": {"type": "number"},
        "duration": {"type": "number", "description": "Seconds."},
        "result": {},
        **_MARKS,
        "error": {"$ref": "#/components/schemas/Problem"},
    },
    "required": ["run_id", "workflow", "channel", "status", "started_at"],
}
_SESSION = {
    "type": "object",
    "properties": {
        "session_id": {"type": "string"},
        "state": {"type": "object"},
        "active_channels": {"type": "array", "items": {"type": "string"}},
        "version": {"type": "integer", "description": "Grows with each change."},
        "created_at": {"type": "number", "description": "Seconds since the epoch."},
        "expires_at": {"type": ["number", "null"]},
    },
    "required": ["session_id", "state", "active_channels", "version", "created_at", "expires_at"],
}
_CHANGE = {
    "type": "object",
    "properties": {
        "state": {"type": "object", "description": "Members to replace; null takes one away. The others stay."},
        "version": {"type": "integer", "description": "The version that is to be changed; another is a conflict."},
    },
    "required": ["state"],
    "additionalProperties": False,
}
_EVERYWHERE: tuple[type[NexusError], ...] = (
    MalformedRequest, AuthenticationError, PermissionDenied, HostNotAllowed, RateLimited, Overloaded,
)  # fmt: skip
_OF_BODIES: tuple[type[NexusError], ...] = (RequestTimeout, RequestTooLarge, UnsupportedEncoding, ValidationError)
_OF_CALLS: tuple[type[NexusError], ...] = (NotFound, Conflict, *_OF_BODIES, WorkflowFailed, WorkflowTimeout)

_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "Seconds to wait for the result.",
    "schema": {"type": "number", "minimum": 0, "maximum": 3600},
}
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

KEPT = 2
"""Documents that are kept: they differ by what their readers may run, and by where the platform is for them."""

BREATH = 20
"""Workflows after which the event loop takes care of others while a document is made."""

_TAGS = [
    {"name": "Catalog", "description": "Which workflows there are."},
    {"name": "Runs", "description": "Runs that go on, and those that have ended."},
    {"name": "Sessions", "description": "State that calls share."},
    {"name": "Events", "description": "What happens, as it happens."},
]
"""Of the platform's own operations; workflows have theirs."""


class OpenAPI:
    """The document of one `Nexus`. What it says of a workflow is written once; a document puts such parts together."""

    def __init__(self, platform: Platform, title: str = "Nexus") -> None:
        self._platform = platform
        self._title = title
        self._parts: WeakKeyDictionary[Workflow, _Part] = WeakKeyDictionary()
        self._texts: dict[tuple[str, ...], bytes] = {}
        platform.events.listen(self._forget)

    def _forget(self, event: ChannelEvent) -> None:
        if event.type in ("workflow.registered", "workflow.unregistered"):
            self._texts.clear()

    async def text(self, workflows: Sequence[Workflow], server: str = "/") -> bytes:
        """Return the document as JSON text.

        Args:
            workflows: What its reader may run.
            server: Where the platform is for its reader, as a URL or a path.
        """
        key = (server, *(workflow.name for workflow in workflows))
        text = self._texts.get(key)
        if text is None:
            parts = await self._parts_of(workflows)
            if len(self._texts) >= KEPT:
                self._texts.clear()
            text = self._texts[key] = self._document(parts, server)
        return text

    async def _parts_of(self, workflows: Sequence[Workflow]) -> list[_Part]:
        found = []
        for number, workflow in enumerate(workflows, start=1):
            part = self._parts.get(workflow)
            if part is None:
                part = self._parts[workflow] = _part(workflow)
                if number % BREATH == 0:
                    await asyncio.sleep(0)
            found.append(part)
        return found

    def _document(self, parts: Sequence[_Part], server: str) -> bytes:
        guarded: dict[str, Any] = {"security": [{name: []} for name in _SCHEMES]} if self._platform.guards else {}
        head = guarded | {
            "openapi": "3.1.0",
            "info": {"title": self._title, "version": core_version()},
            "servers": [{"url": server}],
            "tags": [*_tags_of(parts), *_TAGS],
        }
        schemas = _members({"Problem": _PROBLEM, "Run": _RUN, "Session": _SESSION})
        components = b'"schemas":{%b}' % b",".join([schemas, *(part.schemas for part in parts)])
        problems = {error.code: _problem(error.title) for error in (*_EVERYWHERE, *_OF_CALLS)}
        components += b',"responses":%b' % encode(problems)
        if guarded:
            components += b',"securitySchemes":%b' % encode(_SCHEMES)
        paths = b",".join([*(part.path for part in parts), _members(_general_paths())])
        return b'{%b,"paths":{%b},"components":{%b}}' % (_members(head), paths, components)


class _Part(NamedTuple):
    """What a document says of one workflow: members of its paths and of its schemas, and the tags of the operation."""

    path: bytes
    schemas: bytes
    tags: tuple[str, ...]


def _part(workflow: Workflow) -> _Part:
    schemas: dict[str, Any] = {}
    operation = _operation(workflow, schemas)
    path = _members({f"/api/workflows/{workflow.name}/execute": {"post": operation}})
    return _Part(path, _members(schemas), tuple(operation["tags"]))


def _members(value: dict[str, Any]) -> bytes:
    """Return the text of an object without its braces."""
    return encode(value)[1:-1]


def _tags_of(parts: Sequence[_Part]) -> list[dict[str, str]]:
    own = {tag["name"] for tag in _TAGS}
    return [{"name": tag} for tag in dict.fromkeys(tag for part in parts for tag in part.tags) if tag not in own]


def _operation(workflow: Workflow, schemas: dict[str, Any]) -> dict[str, Any]:
    body = _placed(workflow.input_schema, f"{workflow.name}.input", schemas)
    result = _placed(workflow.output_schema or {}, f"{workflow.name}.output", schemas)
    reply = {
        "type": "object",
        "properties": {"result": result, "run_id": {"type": "string"}, **_MARKS},
        "required": ["result", "run_id"],
    }
    answers = {"200": _json("The result.", reply), "202": _json("Still running (wait=N).", _ref("Run"))}
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    answers["200"]["content"] |= events
    return {
        "operationId": f"execute_{workflow.name}",
        "summary": workflow.description.strip().split("\n")[0] or f"Run {workflow.name}.",
        "description": workflow.help,
        "tags": workflow.metadata.get("tags") or [workflow.metadata.get("category", "workflows")],
        "parameters": [
            _header("X-Nexus-Session", "The session that the call belongs to."),
            _header("Idempotency-Key", "Makes repeats safe."),
            _header("Prefer", "`wait=N`: answer 202 with the run's handle after N seconds."),
            _WAIT,
        ],
        "requestBody": {
            "required": bool(workflow.input_schema.get("required")),
            "content": {"application/json": {"schema": body}},
        },
        "responses": answers | _problems(*_EVERYWHERE, *_OF_CALLS),
    }


def _general_paths() -> dict[str, Any]:
    run, workflow, session = (
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("run_id", "name", "session_id")
    )
    not_found = _problems(NotFound)
    some_object = {"type": "object"}
    change = {"requestBody": {"required": True, "content": {"application/json": {"schema": _CHANGE}}}}
    return {
        "/api/workflows": {"get": _get("Catalog", "List the workflows.", some_object)},
        "/api/workflows/{name}": {"get": _get("Catalog", "Describe a workflow.", some_object, [workflow], not_found)},
        "/api/runs": {
            "get": _get(
                "Runs",
                "List runs, newest first.",
                some_object,
                [
                    {"name": "workflow", "in": "query", "schema": {"type": "string"}},
                    {"name": "status", "in": "query", "schema": _RUN["properties"]["status"]},  # type: ignore[index]
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
                ],
            )
        },
        "/api/runs/{run_id}": {"get": _get("Runs", "Show a run.", _ref("Run"), [run, _WAIT], not_found)},
        "/api/runs/{run_id}/cancel": {
            "post": _get(
                "Runs", "Cancel a run.", _ref("Run"), [run], not_found | {"202": _json("Asked to stop.", _ref("Run"))}
            )
        },
        "/api/runs/{run_id}/events": {
            "get": _stream(
                "Runs",
                "Follow a run (server-sent events).",
                [run, *_after("The number of the last event received.", _NUMBER)],
            )
        },
        "/api/sessions": {
            "post": _get(
                "Sessions",
                "Begin a session.",
                _ref("Session"),
                more=not_found | {"201": _json("It is there.", _ref("Session"))},
            )
        },
        "/api/sessions/{session_id}": {
            "get": _get("Sessions", "Show a session.", _ref("Session"), [session], not_found),
            "patch": _get(
                "Sessions",
                "Change a session's state.",
                _ref("Session"),
                [session],
                not_found | _problems(Conflict, *_OF_BODIES),
            )
            | change,
            "delete": {
                "tags": ["Sessions"],
                "summary": "End a session.",
                "parameters": [session],
                "responses": {"204": {"description": "It is gone."}} | not_found | _problems(*_EVERYWHERE),
            },
        },
        "/api/sessions/{session_id}/renew": {
            "post": _get(
                "Sessions",
                "Give a session another id, after a login.",
                _ref("Session"),
                [session],
                not_found | _problems(Conflict) | {"201": _json("Its new id.", _ref("Session"))},
            )
        },
        "/api/events": {
            "get": _stream(
                "Events",
                "Follow what happens to your runs and sessions (server-sent events).",
                [
                    *_after("The id of the last event received.", {"type": "string"}),
                    {"name": "session", "in": "query", "schema": {"type": "string"}},
                ],
            )
        },
    }


def _after(description: str, schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": "Last-Event-ID", "in": "header", "description": description, "schema": schema},
        {"name": "after", "in": "query", "description": f"{description} The header counts first.", "schema": schema},
    ]


def _stream(tag: str, summary: str, parameters: list[Any]) -> dict[str, Any]:
    events = {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    responses = {"200": events} | _problems(NotFound, *_EVERYWHERE)
    return {"tags": [tag], "summary": summary, "parameters": parameters, "responses": responses}


def _get(
    tag: str, summary: str, schema: dict[str, Any], parameters: list[Any] | None = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "tags": [tag],
        "summary": summary,
        "parameters": parameters or [],
        "responses": {"200": _json("Found.", schema)} | _problems(*_EVERYWHERE) | (more or {}),
    }


def _placed(schema: dict[str, Any], name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """Put a schema and its definitions among the document's own, and return the reference to it."""
    place = _ref(name)
    schemas[name], definitions = move_schema(schema, place["$ref"], f"{place['$ref']}.")
    schemas |= {f"{name}.{each}": definition for each, definition in definitions.items()}
    return place


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/problem+json": {"schema": _ref("Problem")}}}


def _problems(*errors: type[NexusError]) -> dict[str, Any]:
    return {str(error.status): {"$ref": f"#/components/responses/{error.code}"} for error in errors}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
