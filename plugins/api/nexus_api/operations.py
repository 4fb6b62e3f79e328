"""Operations of the OpenAPI document: the parts that they are made of, and routes that carry theirs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from nexus_core import RunStatus
from nexus_core.errors import (
    AuthenticationError,
    HostNotAllowed,
    MalformedRequest,
    NexusError,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedEncoding,
    ValidationError,
)
from nexus_core.runs.question import QuestionStatus
from nexus_core.runs.work import WaitReason

if TYPE_CHECKING:
    from collections.abc import Mapping

STRING = {"type": "string"}
OBJECT = {"type": "object"}
STATUS = {"enum": [str(status) for status in RunStatus]}
FLAGS = {
    "cached": {"type": "boolean", "description": "Whether the result comes from the cache."},
    "replayed": {"type": "boolean", "description": "Whether the result is that of an earlier call with the same key."},
}
_PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "properties": {
        "type": STRING,
        "title": STRING,
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "Explanation of the error."},
        "code": {"type": "string", "description": "Stable error code, for programs."},
        "run_id": STRING,
        "retry_after": {"type": "number", "description": "Seconds."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer to the invalid field."},
                    "message": STRING,
                    "expected": STRING,
                    "nearest": {"type": "string", "description": "The most similar known name."},
                },
                "required": ["pointer", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code"],
}
_RUN = {
    "type": "object",
    "properties": {
        "run_id": STRING,
        "workflow": STRING,
        "channel": STRING,
        "status": STATUS,
        "started_at": {"type": "number", "description": "Seconds since the epoch."},
        "finished_at": {"type": "number"},
        "duration": {"type": "number", "description": "Seconds."},
        "position": {
            "type": "integer",
            "description": "Number of calls before it, while it is `blocked` or `pending`.",
        },
        "waiting_for": {
            "enum": [str(reason) for reason in WaitReason],
            "description": "Why the work of a durable run has not begun, while it is `pending`.",
        },
        "questions": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Question"},
            "description": "Its open questions, while it is `waiting`.",
        },
        "version": {"type": "string", "description": "Version of the workflow's code when the call was accepted."},
        "schema_hash": {"type": "string", "description": "Digest of the schema that its parameters fitted then."},
        "parent": {"type": "string", "description": "The run that it repeats (`retry`, `fork`)."},
        "result": {},
        **FLAGS,
        "error": {"$ref": "#/components/schemas/Problem"},
    },
    "required": ["run_id", "workflow", "channel", "status", "started_at"],
}
_QUESTION = {
    "type": "object",
    "properties": {
        "run_id": STRING,
        "number": {"type": "integer", "description": "Place among the questions of the run, from 1."},
        "workflow": STRING,
        "question": STRING,
        "schema": {**OBJECT, "description": "JSON Schema of the answer."},
        "to": {"type": "string", "description": "Who may answer: `caller`, `user:ID` or `permission:NAME`."},
        "status": {"enum": [str(status) for status in QuestionStatus]},
        "asked_at": {"type": "number", "description": "Seconds since the epoch."},
        "expires_at": {"type": "number", "description": "Until when it can be answered. Absent without a limit."},
        "details": {**OBJECT, "description": "What it is about."},
        "closed_at": {"type": "number"},
        "answered_by": {"type": "string", "description": "A user id, or `link`."},
        "answer": {"description": "Absent in lists of open questions."},
    },
    "required": ["run_id", "number", "workflow", "question", "schema", "to", "status", "asked_at"],
}
_QUESTIONS = {
    "type": "object",
    "properties": {
        "questions": {"type": "array", "items": {"$ref": "#/components/schemas/Question"}},
        "next": {"type": "string", "description": "For `after`, where further questions may follow."},
    },
    "required": ["questions"],
}
_STEPS = {
    "type": "object",
    "properties": {
        "run_id": STRING,
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "number": {"type": "integer", "description": "Place among the steps of the run, from 1."},
                    "name": STRING,
                    "attempt": {"type": "integer", "description": "From 1. Each attempt is listed."},
                    "began_at": {"type": "number", "description": "Seconds since the epoch."},
                    "ended_at": {"type": "number", "description": "Absent while it goes on."},
                    "duration": {"type": "number", "description": "Seconds."},
                    "outcome": {"enum": ["completed", "failed", "cancelled", "interrupted"]},
                    "size": {"type": "integer", "description": "Bytes of its result; 0 where it was not measured."},
                    "error": STRING,
                },
                "required": ["number", "name", "attempt", "began_at"],
            },
        },
        "next": {"type": "integer", "description": "For `after`, where further steps may follow."},
    },
    "required": ["run_id", "steps"],
}
_SESSION = {
    "type": "object",
    "properties": {
        "session_id": STRING,
        "state": OBJECT,
        "active_channels": {"type": "array", "items": STRING},
        "version": {"type": "integer", "description": "Increases with each change."},
        "created_at": {"type": "number", "description": "Seconds since the epoch."},
        "expires_at": {"type": ["number", "null"]},
    },
    "required": ["session_id", "state", "active_channels", "version", "created_at", "expires_at"],
}
SCHEMAS = {
    "Problem": _PROBLEM, "Run": _RUN, "Question": _QUESTION, "Questions": _QUESTIONS, "Steps": _STEPS,
    "Session": _SESSION,
}  # fmt: skip
"""Schemas that every document has."""

ON_EVERY_ROUTE: tuple[type[NexusError], ...] = (
    MalformedRequest, AuthenticationError, PermissionDenied, HostNotAllowed, RateLimited, Overloaded,
)  # fmt: skip
WITH_BODY: tuple[type[NexusError], ...] = (RequestTimeout, RequestTooLarge, UnsupportedEncoding, ValidationError)
"""Errors of requests with a body."""


class DescribedRoute(Route):
    """A route with its OpenAPI operation.

    Args:
        path: The path. Its parameters are described as strings.
        endpoint: The endpoint or ASGI application.
        operation: See `operation`.
        method: The HTTP method.

    Attributes:
        described: The path item with the operation.
    """

    def __init__(self, path: str, endpoint: Any, operation: Mapping[str, Any], method: str = "GET") -> None:
        super().__init__(path, endpoint, methods=[method])
        names = re.findall(r"{(\w+)}", path)
        in_path = [{"name": name, "in": "path", "required": True, "schema": STRING} for name in names]
        described = {**operation, "parameters": [*in_path, *operation["parameters"]]}
        self.described = {method.lower(): described}


def operation(
    tag: str, summary: str, answers: Mapping[int, Any], *parameters: Mapping[str, Any],
    errors: tuple[type[NexusError], ...] = (), body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return an operation.

    Args:
        tag: Its group.
        summary: A sentence.
        answers: Responses by status.
        parameters: Query and header parameters.
        errors: Errors in addition to those of every route.
        body: The schema of the required body.
    """
    responses = {str(status): answer for status, answer in answers.items()} | problems(*ON_EVERY_ROUTE, *errors)
    found: dict[str, Any] = {"tags": [tag], "summary": summary, "parameters": parameters, "responses": responses}
    return found if body is None else found | {"requestBody": {"required": True, "content": json_content(body)}}


def json_answer(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response with a JSON body."""
    return {"description": description, "content": json_content(schema)}


def json_content(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a JSON body."""
    return {"application/json": {"schema": schema}}


EVENT_STREAM = {"text/event-stream": {"schema": STRING}}
"""The content of a stream of server-sent events."""


def problems(*errors: type[NexusError]) -> dict[str, Any]:
    """Return the responses of errors, by status."""
    return {str(error.status): {"$ref": f"#/components/responses/{error.code}"} for error in errors}


def problem(description: str) -> dict[str, Any]:
    """Return the response of an error."""
    return {"description": description, "content": {"application/problem+json": {"schema": ref("Problem")}}}


def ref(name: str) -> dict[str, Any]:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def query(name: str, schema: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    """Return a query parameter."""
    return {"name": name, "in": "query", "schema": schema} | ({"description": description} if description else {})


def header(name: str, description: str, schema: Mapping[str, Any] = STRING) -> dict[str, Any]:
    """Return a header parameter."""
    return {"name": name, "in": "header", "description": description, "schema": schema}


def after(description: str, schema: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two parameters that name the last event received."""
    precedence = f"{description} The header takes precedence."
    return header("Last-Event-ID", description, schema), query("after", schema, precedence)


WAIT = query(
    "wait", {"type": "number", "minimum": 0, "maximum": 3600}, "Seconds to wait for the result, or for a question."
)
