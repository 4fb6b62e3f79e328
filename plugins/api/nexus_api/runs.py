"""``/api/runs``: runs that go on, and those that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from nexus_api.event_stream import send_events
from nexus_api.translate import CallerLeaves, seconds_to_wait, view_of
from nexus_api.workflows import json_answer
from nexus_core import MalformedRequest, RunStatus
from nexus_core.server.caller import headers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from nexus_core import Platform
    from nexus_core.server.channel import Receive, Scope, Send

LARGEST_PAGE = 1000
"""Runs in one listing."""


def routes(platform: Platform, heartbeat: float) -> Sequence[Route]:
    """Return the routes under ``/api/runs``."""

    async def list_all(request: Request) -> Response:
        query = request.query_params
        status, limit = query.get("status"), _number(query.get("limit", "100"), "limit")
        if status is not None and status not in list(RunStatus):
            raise MalformedRequest(f"status must be one of {', '.join(RunStatus)}.")
        if not 1 <= limit <= LARGEST_PAGE:
            raise MalformedRequest(f"limit must be from 1 to {LARGEST_PAGE}.")
        view = await view_of(platform, request.scope)
        found = view.runs(workflow=query.get("workflow"), status=status, limit=limit)
        return json_answer({"runs": [run.to_dict(with_result=False) for run in found]}, view)

    async def show(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        with view.run(request.path_params["run_id"]).hold() as run:
            wait = seconds_to_wait(request.scope, headers_of(request.scope))
            if wait:
                with view.lease(), CallerLeaves(platform.alarms, request.receive):
                    await run.wait(wait)
            return json_answer(run.to_dict(), view)

    async def cancel(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        run = view.run(request.path_params["run_id"])
        asked = run.cancel()
        return json_answer(run.to_dict() | {"cancelled": asked}, view, 202 if asked else 200)

    return [
        Route("/api/runs", list_all),
        Route("/api/runs/{run_id}", show),
        Route("/api/runs/{run_id}/cancel", cancel, methods=["POST"]),
        Route("/api/runs/{run_id}/events", _Events(platform, heartbeat), methods=["GET"]),
    ]


class _Events:
    """Streams one run's events, from the number in ``Last-Event-ID`` or ``?after=`` on."""

    def __init__(self, platform: Platform, heartbeat: float) -> None:
        self._platform = platform
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import Request

        request = Request(scope)
        view = await view_of(self._platform, scope)
        run = view.run(scope["path_params"]["run_id"])
        given = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
        after = _number(given, "Last-Event-ID")
        if scope["method"] == "HEAD":
            await Response(media_type="text/event-stream")(scope, receive, send)
            return
        caller = CallerLeaves(self._platform.alarms, receive)
        await send_events(run, after, self._heartbeat, caller, view.lease(), send)


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise MalformedRequest(f"{name} must be a whole number.")
    return int(text)
