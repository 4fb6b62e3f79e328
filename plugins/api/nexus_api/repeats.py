"""``/api/runs/.../retry`` and ``fork``: runs that are repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nexus_api.operations import OBJECT, STRING, WITH_BODY, DescribedRoute, operation, ref
from nexus_api.operations import json_answer as described
from nexus_api.translate import caller_of_request, read_object
from nexus_api.workflows import json_answer
from nexus_core import Conflict, MalformedRequest, NotFound
from nexus_core.app.repeats import MOST_AT_ONCE, REPEATED
from nexus_core.runs.listing import FILTERS, filter_of
from nexus_core.server.caller import headers_of, idempotency_key_of
from nexus_core.server.public_address import root_path
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from nexus_core import Platform
    from nexus_core.app.view import CallerView
    from nexus_core.runs.stored_run import AnyRun

FILTER = ("workflow", "status", "channel", "since", "until", "before", "limit")

_FORK_BODY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "from_step": {
            "type": ["string", "integer"],
            "description": "The first step that is done again: its name, or its number among the recorded steps.",
        },
        "params": {**OBJECT, "description": "New parameters. Default: those of the run."},
    },
    "required": ["from_step"],
    "additionalProperties": False,
}
_RETRY_BODY: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: {**STRING, "description": FILTERS[name]} for name in FILTER},
        "status": {"enum": [str(status) for status in REPEATED], "description": "Only runs with this status."},
        "limit": {"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE},
        "batch": {**STRING, "description": "An id of your own: with the same one, no run is retried twice."},
        "dry_run": {"type": "boolean", "description": "Whether to count only what would be retried."},
    },
    "required": ["status"],
    "additionalProperties": False,
}
_NEW = {202: described("The new run.", ref("Run"))}
_RETRY = operation("Runs", "Start a run with the parameters of another one.", _NEW, errors=(NotFound, Conflict))
_FORK = operation(
    "Runs", "Start a run that goes on from a step of a durable run.", _NEW, errors=(NotFound, Conflict, *WITH_BODY),
    body=_FORK_BODY,
)  # fmt: skip
_RETRY_ALL = operation(
    "Runs", "Retry the runs that a filter shows.",
    {200: described("How many runs there are, and what became of each.", OBJECT)},
    errors=(Conflict, *WITH_BODY), body=_RETRY_BODY,
)  # fmt: skip


def routes(platform: Platform) -> Sequence[DescribedRoute]:
    """Return the routes."""

    async def begin(request: Request) -> tuple[CallerView, dict[str, Any]]:
        caller = caller_of_request(request.scope, headers_of(request.scope))
        body = await read_object(platform, caller, request.receive)
        return await platform.view(caller), body[1] if body else {}

    async def retry(request: Request) -> Response:
        headers = headers_of(request.scope)
        view = await platform.view(caller_of_request(request.scope, headers))
        run = await view.repeats.retry(request.path_params["run_id"], idempotency_key_of(headers))
        return _accepted(run, view, request)

    async def fork(request: Request) -> Response:
        view, body = await begin(request)
        refuse_unknown(body, _FORK_BODY["properties"])
        step, params = body.get("from_step"), body.get("params")
        if not isinstance(step, str | int) or isinstance(step, bool):
            raise MalformedRequest("/from_step: required: the name of a step, or its number.")
        if params is not None and not isinstance(params, dict):
            raise MalformedRequest("/params: must be an object.")
        key = idempotency_key_of(headers_of(request.scope))
        run = await view.repeats.fork(request.path_params["run_id"], step, params, key)
        return _accepted(run, view, request)

    async def retry_all(request: Request) -> Response:
        view, body = await begin(request)
        refuse_unknown(body, _RETRY_BODY["properties"])
        batch, dry_run = body.get("batch"), body.get("dry_run", False)
        if not isinstance(dry_run, bool):
            raise MalformedRequest("/dry_run: must be a boolean.")
        if batch is not None and not isinstance(batch, str):
            raise MalformedRequest("/batch: must be a string.")
        wanted = filter_of({name: body.get(name) for name in FILTER}, MOST_AT_ONCE, MOST_AT_ONCE)
        return json_answer(await view.repeats.retry_all(wanted, batch, dry_run=dry_run), view)

    return [
        DescribedRoute("/api/runs/retry", retry_all, _RETRY_ALL, "POST"),
        DescribedRoute("/api/runs/{run_id}/retry", retry, _RETRY, "POST"),
        DescribedRoute("/api/runs/{run_id}/fork", fork, _FORK, "POST"),
    ]


def refuse_unknown(body: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a body with members that are not known.

    Raises:
        MalformedRequest: There is one.
    """
    if unknown := sorted(body.keys() - set(known)):
        raise MalformedRequest(f"/{printable(unknown[0], 100)}: unknown name. It may be {', '.join(known)}.")


def _accepted(run: AnyRun, view: CallerView, request: Request) -> Response:
    response = json_answer(run.to_dict(), view, 202)
    response.headers["location"] = f"{quote(root_path(request.scope))}/api/runs/{run.id}"
    return response
