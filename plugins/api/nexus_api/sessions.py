"""``/api/sessions``: the caller's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from nexus_api.translate import invocation_of, read_params, view_of
from nexus_api.workflows import json_answer
from nexus_core import MalformedRequest
from nexus_core.jsontext import type_name
from nexus_core.server.caller import headers_of
from nexus_core.server.public_address import root_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from nexus_core import Platform, Session
    from nexus_core.app.view import View


def routes(platform: Platform) -> Sequence[Route]:
    """Return the routes under ``/api/sessions``."""

    async def create(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        return _made(request, view, await view.create_session("api"))

    async def show(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        return json_answer((await view.session(request.path_params["session_id"])).to_dict(), view)

    async def change(request: Request) -> Response:
        caller = invocation_of(request.scope, headers_of(request.scope), "", None)
        body = await read_params(platform, caller, request.receive)
        view = await platform.view(caller)
        state, version = _change(body or {})
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
        Route("/api/sessions", create, methods=["POST"]),
        Route("/api/sessions/{session_id}", show),
        Route("/api/sessions/{session_id}", change, methods=["PATCH"]),
        Route("/api/sessions/{session_id}", remove, methods=["DELETE"]),
        Route("/api/sessions/{session_id}/renew", renew, methods=["POST"]),
    ]


def _made(request: Request, view: View, session: Session) -> Response:
    """Return the answer that shows a session which has just got its id."""
    response = json_answer(session.to_dict(), view, 201)
    response.headers["location"] = f"{quote(root_path(request.scope))}/api/sessions/{session.id}"
    return response


def _change(body: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Return the changes and the version that a body names: ``{"state": {...}, "version": 3}``."""
    state, version = body.get("state"), body.get("version")
    if not isinstance(state, dict):
        given = "nothing" if "state" not in body else type_name(state)
        raise MalformedRequest(f"/state: expected object with the members to change, not {given}.")
    if version is not None and type(version) is not int:
        raise MalformedRequest("/version: expected integer.")
    if unknown := sorted(body.keys() - {"state", "version"}):
        raise MalformedRequest(f"/{unknown[0][:100]}: unknown name.")
    return state, version
