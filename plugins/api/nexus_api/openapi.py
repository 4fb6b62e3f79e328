"""The OpenAPI 3.1 document: one typed path for each workflow, and the general ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nexus_api.translate import encode
from nexus_core.errors import (
    AuthenticationError,
    Conflict,
    MalformedRequest,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RequestTooLarge,
    ValidationError,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTimeout,
)
from nexus_core.plugins.discovery import core_version
from nexus_core.schema.references import move_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core import ChannelEvent, Nexus, Workflow

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
_REFUSALS = (
    MalformedRequest, AuthenticationError, PermissionDenied, RequestTooLarge, ValidationError, RateLimited,
    WorkflowFailed, Overloaded, WorkflowTimeout,
)  # fmt: skip

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

KEPT = 8
"""Documents that are kept: they differ by what their readers may run, and by where the application is mounted."""


class OpenAPI:
    """The document of one `Nexus`, made anew after workflows have changed."""

    def __init__(self, nexus: Nexus, title: str = "Nexus") -> None:
        self._nexus = nexus
        self._title = title
        self._texts: dict[tuple[str, ...], bytes] = {}
        nexus.events.listen(self._forget)

    def _forget(self, event: ChannelEvent) -> None:
        if event.type in ("workflow.registered", "workflow.unregistered"):
            self._texts.clear()

    def text(self, workflows: Sequence[Workflow], root_path: str = "") -> bytes:
        """Return the document as JSON text.

        Args:
            workflows: What its reader may run.
            root_path: Where the application is mounted.
        """
        key = (root_path, *(workflow.name for workflow in workflows))
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= KEPT:
                self._texts.clear()
            text = self._texts[key] = encode(self._document(workflows, root_path))
        return text

    def _document(self, workflows: Sequence[Workflow], root_path: str) -> dict[str, Any]:
        schemas: dict[str, Any] = {"Problem": _PROBLEM, "Run": _RUN, "Session": _SESSION}
        paths: dict[str, Any] = {}
        for workflow in workflows:
            paths[f"/api/workflows/{workflow.name}/execute"] = {"post": _operation(workflow, schemas)}
        guarded: dict[str, Any] = {"security": [{name: []} for name in _SCHEMES]} if self._nexus.guards else {}
        return guarded | {
            "openapi": "3.1.0",
            "info": {"title": self._title, "version": core_version()},
            "servers": [{"url": quote(root_path) or "/"}],
            "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
            "paths": paths | _general_paths(),
            "components": {"schemas": schemas} | ({"securitySchemes": _SCHEMES} if guarded else {}),
        }


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
        ],
        "requestBody": {
            "required": bool(workflow.input_schema.get("required")),
            "content": {"application/json": {"schema": body}},
        },
        "responses": answers | {str(error.status): _problem(error.title) for error in _REFUSALS},
    }


def _general_paths() -> dict[str, Any]:
    run = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}
    workflow = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    not_found = {"404": _problem(WorkflowNotFound.title)}
    wrong = {"400": _problem(MalformedRequest.title)}
    conflict = {"409": _problem(Conflict.title), "422": _problem(ValidationError.title)}
    session = {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}}
    wait = {"name": "wait", "in": "query", "schema": {"type": "number", "minimum": 0, "maximum": 3600}}
    some_object = {"type": "object"}
    return {
        "/api/workflows": {"get": _get("List the workflows.", some_object)},
        "/api/workflows/{name}": {"get": _get("Describe a workflow.", some_object, [workflow], not_found)},
        "/api/runs": {
            "get": _get(
                "List runs, newest first.",
                some_object,
                [
                    {"name": "workflow", "in": "query", "schema": {"type": "string"}},
                    {"name": "status", "in": "query", "schema": _RUN["properties"]["status"]},  # type: ignore[index]
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
                ],
                wrong,
            )
        },
        "/api/runs/{run_id}": {"get": _get("Show a run.", _ref("Run"), [run, wait], not_found | wrong)},
        "/api/runs/{run_id}/cancel": {
            "post": _get("Cancel a run.", _ref("Run"), [run], not_found | {"202": _json("Asked to stop.", _ref("Run"))})
        },
        "/api/runs/{run_id}/events": {
            "get": {
                "summary": "Follow a run (server-sent events).",
                "parameters": [run, _header("Last-Event-ID", "The number of the last event received.")],
                "responses": {
                    "200": {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
                }
                | not_found
                | wrong,
            }
        },
        "/api/sessions": {
            "post": _get("Begin a session.", _ref("Session"), more={"201": _json("It is there.", _ref("Session"))})
        },
        "/api/sessions/{session_id}": {
            "get": _get("Show a session.", _ref("Session"), [session], not_found),
            "patch": _get("Change a session's state.", _ref("Session"), [session], not_found | wrong | conflict)
            | {"requestBody": {"required": True, "content": {"application/json": {"schema": _CHANGE}}}},
            "delete": {
                "summary": "End a session.",
                "parameters": [session],
                "responses": {"204": {"description": "It is gone."}} | not_found,
            },
        },
        "/api/sessions/{session_id}/renew": {
            "post": _get(
                "Give a session another id, after a login.",
                _ref("Session"),
                [session],
                not_found | {"201": _json("Its new id.", _ref("Session"))},
            )
        },
        "/api/events": {
            "get": {
                "summary": "Follow what happens to your runs and sessions (server-sent events).",
                "parameters": [
                    _header("Last-Event-ID", "The id of the last event received."),
                    {"name": "session", "in": "query", "schema": {"type": "string"}},
                ],
                "responses": {
                    "200": {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
                }
                | not_found
                | wrong,
            }
        },
    }


def _get(
    summary: str, schema: dict[str, Any], parameters: list[Any] | None = None, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": parameters or [],
        "responses": {"200": _json("Found.", schema)} | (more or {}),
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


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
