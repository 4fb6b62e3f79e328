"""``/api/sessions``: the caller's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import Response

from nexus_api.operations import OBJECT, WITH_BODY, DescribedRoute, operation, ref
from nexus_api.operations import json_answer as described
from nexus_api.translate import caller_of_request, read_object, view_of
from nexus_api.workflows import json_answer
from nexus_core import Conflict, MalformedRequest, NotFound
from nexus_core.jsontext import type_name
from nexus_core.server.caller import headers_of
from nexus_core.server.public_address import root_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from nexus_core import Platform, Session
    from nexus_core.app.view import CallerView


_SESSION, _CREATED = described("The session.", ref("Session")), described("The session with its id.", ref("Session"))
_CHANGES = {
    "type": "object",
    "properties": {
        "state": {**OBJECT, "description": "Members to replace; null removes one. Others are unchanged."},
        "version": {"type": "integer", "description": "The expected version; any other is a conflict."},
    },
    "required": ["state"],
    "additionalProperties": False,
}
_CREATE = operation("Sessions", "Create a session.", {201: _CREATED}, errors=(NotFound,))
_SHOW = operation("Sessions", "Show a session.", {200: _SESSION}, errors=(NotFound,))
_UPDATE = operation(
    "Sessions", "Update the state of a session.", {200: _SESSION}, errors=(NotFound, Conflict, *WITH_BODY),
    body=_CHANGES,
)  # fmt: skip
_DELETE = operation("Sessions", "Delete a session.", {204: {"description": "Deleted."}}, errors=(NotFound,))
_RENEW = operation(
    "Sessions", "Replace the id of a session, after a login.", {201: _CREATED}, errors=(NotFound, Conflict)
)


def routes(platform: Platform) -> Sequence[DescribedRoute]:
    """Return the routes under ``/api/sessions``."""

    async def create(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        return _made(request, view, await view.create_session("api"))

    async def show(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        return json_answer((await view.session(request.path_params["session_id"])).to_dict(), view)

    async def change(request: Request) -> Response:
        caller = caller_of_request(request.scope, headers_of(request.scope))
        body = await read_object(platform, caller, request.receive)
        view = await platform.view(caller)
        state, version = _change(body[1] if body else {})
        session = await view.update_session(request.path_params["session_id"], state, version)
        return json_answer(session.to_dict(), view)

    async def renew(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        return _made(request, view, await view.renew_session(request.path_params["session_id"]))

    async def remove(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        await view.remove_session(request.path_params["session_id"])
        return Response(status_code=204)

    return [
        DescribedRoute("/api/sessions", create, _CREATE, "POST"),
        DescribedRoute("/api/sessions/{session_id}", show, _SHOW),
        DescribedRoute("/api/sessions/{session_id}", change, _UPDATE, "PATCH"),
        DescribedRoute("/api/sessions/{session_id}", remove, _DELETE, "DELETE"),
        DescribedRoute("/api/sessions/{session_id}/renew", renew, _RENEW, "POST"),
    ]


def _made(request: Request, view: CallerView, session: Session) -> Response:
    """Return the response with a session that has a new id."""
    response = json_answer(session.to_dict(), view, 201)
    response.headers["location"] = f"{quote(root_path(request.scope))}/api/sessions/{session.id}"
    return response


def _change(body: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Return the changes and the expected version of a body: ``{"state": {...}, "version": 3}``."""
    state, version = body.get("state"), body.get("version")
    if not isinstance(state, dict):
        given = "nothing" if "state" not in body else type_name(state)
        raise MalformedRequest(f"/state: expected object with the members to change, not {given}.")
    if version is not None and type(version) is not int:
        raise MalformedRequest("/version: expected integer.")
    if unknown := sorted(body.keys() - {"state", "version"}):
        raise MalformedRequest(f"/{unknown[0][:100]}: unknown name.")
    return state, version
