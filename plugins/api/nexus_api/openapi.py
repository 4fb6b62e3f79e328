"""The OpenAPI 3.1 document: one typed path for each workflow, and those of the routes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from nexus_api.operations import (
    EVENT_STREAM,
    FLAGS,
    ON_EVERY_ROUTE,
    SCHEMAS,
    STRING,
    WAIT,
    WITH_BODY,
    DescribedRoute,
    header,
    json_answer,
    json_content,
    problem,
    problems,
    ref,
)
from nexus_api.translate import encode
from nexus_core.errors import Conflict, NexusError, NotFound, WorkflowFailed, WorkflowTimeout
from nexus_core.plugins.discovery import core_version
from nexus_core.schema.references import move_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nexus_core import ChannelEvent, Platform, Workflow

_OF_CALLS: tuple[type[NexusError], ...] = (NotFound, Conflict, *WITH_BODY, WorkflowFailed, WorkflowTimeout)

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

CACHED = 2
"""Documents in the cache. They differ by the workflows that their readers may run, and by the server's URL."""

CHUNK = 20
"""Workflows that are described before the event loop gets a turn."""

_TAGS = [
    {"name": "Catalog", "description": "The workflows."},
    {"name": "Runs", "description": "Running and finished runs."},
    {"name": "Questions", "description": "Questions of runs that wait for an answer."},
    {"name": "Sessions", "description": "State shared by calls."},
    {"name": "Events", "description": "Streams of events."},
]
"""Groups of the routes; workflows have their own tags."""


class OpenAPI:
    """The document of one `Nexus`. The part of each workflow is made once; a document joins such parts.

    Args:
        platform: The platform.
        title: The title of the document.
        routes: The routes; the document has each `DescribedRoute`.
    """

    def __init__(self, platform: Platform, title: str = "Nexus", routes: Iterable[object] = ()) -> None:
        self._platform = platform
        self._title = title
        self._routes = [each for each in routes if isinstance(each, DescribedRoute)]
        self._parts: WeakKeyDictionary[Workflow, _Part] = WeakKeyDictionary()
        self._texts: dict[tuple[str, ...], bytes] = {}
        platform.events.listen(self._forget)

    def _forget(self, event: ChannelEvent) -> None:
        if event.type in ("workflow.registered", "workflow.unregistered"):
            self._texts.clear()

    async def text(self, workflows: Sequence[Workflow], server: str = "/") -> bytes:
        """Return the document as JSON text.

        Args:
            workflows: The workflows that its reader may run.
            server: The URL or path of the platform for its reader.
        """
        key = (server, *(workflow.name for workflow in workflows))
        text = self._texts.get(key)
        if text is None:
            parts = await self._parts_of(workflows)
            if len(self._texts) >= CACHED:
                self._texts.clear()
            text = self._texts[key] = self._document(parts, server)
        return text

    async def _parts_of(self, workflows: Sequence[Workflow]) -> list[_Part]:
        found = []
        for number, workflow in enumerate(workflows, start=1):
            part = self._parts.get(workflow)
            if part is None:
                part = self._parts[workflow] = _part(workflow)
                if number % CHUNK == 0:
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
        schemas = _members(SCHEMAS)
        components = b'"schemas":{%b}' % b",".join([schemas, *(part.schemas for part in parts)])
        problems = {error.code: problem(error.title) for error in (*ON_EVERY_ROUTE, *_OF_CALLS)}
        components += b',"responses":%b' % encode(problems)
        if guarded:
            components += b',"securitySchemes":%b' % encode(_SCHEMES)
        paths = b",".join(filter(None, [*(part.path for part in parts), _members(self._general_paths())]))
        return b'{%b,"paths":{%b},"components":{%b}}' % (_members(head), paths, components)

    def _general_paths(self) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for route in self._routes:
            paths.setdefault(route.path, {}).update(route.described)
        return paths


class _Part(NamedTuple):
    """The part of one workflow: members of the document's paths and schemas, and the tags of the operation."""

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
        "properties": {"result": result, "run_id": STRING, **FLAGS},
        "required": ["result", "run_id"],
    }
    waits = json_answer("Still running (wait=N), or waiting for an answer.", ref("Run"))
    answers = {"200": json_answer("The result.", reply), "202": waits}
    answers["200"]["content"] |= EVENT_STREAM
    return {
        "operationId": f"execute_{workflow.name}",
        "summary": workflow.description.strip().split("\n")[0] or f"Run {workflow.name}.",
        "description": workflow.help,
        "tags": workflow.metadata.get("tags") or [workflow.metadata.get("category", "workflows")],
        "parameters": [
            header("X-Nexus-Session", "The session of the call."),
            header("Idempotency-Key", "Makes retries safe."),
            header("Prefer", "`wait=N`: respond with 202 and the run after N seconds, or when it waits for an answer."),
            WAIT,
        ],
        "requestBody": {
            "required": bool(workflow.input_schema.get("required")),
            "content": json_content(body),
        },
        "responses": answers | problems(*ON_EVERY_ROUTE, *_OF_CALLS),
    }


def _placed(schema: dict[str, Any], name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """Add a schema and its definitions to those of the document, and return the reference to it."""
    place = ref(name)
    schemas[name], definitions = move_schema(schema, place["$ref"], f"{place['$ref']}.")
    schemas |= {f"{name}.{each}": definition for each, definition in definitions.items()}
    return place
