"""``/api/runs``: running and finished runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from nexus_api.event_stream import send_events
from nexus_api.operations import (
    EVENT_STREAM,
    OBJECT,
    STATUS,
    STRING,
    WAIT,
    DescribedRoute,
    after,
    operation,
    query,
    ref,
)
from nexus_api.operations import json_answer as described
from nexus_api.translate import CallerLeaves, seconds_to_wait, view_of
from nexus_api.workflows import json_answer
from nexus_core import MalformedRequest, NotFound, RunStatus
from nexus_core.server.caller import headers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from nexus_core import Platform
    from nexus_core.server.channel import Receive, Scope, Send

LARGEST_PAGE = 1000
"""Largest number of runs in one list."""

_RUN = described("The run.", ref("Run"))
_LIST = operation(
    "Runs", "List runs, newest first.", {200: described("The runs.", OBJECT)}, query("workflow", STRING),
    query("status", STATUS), query("limit", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}),
)  # fmt: skip
_SHOW = operation("Runs", "Show a run.", {200: _RUN}, WAIT, errors=(NotFound,))
_CANCEL = operation(
    "Runs", "Cancel a run.", {200: _RUN, 202: described("Cancellation requested.", ref("Run"))}, errors=(NotFound,)
)
_FOLLOW = operation(
    "Runs", "Follow a run (server-sent events).", {200: {"description": "Events.", "content": EVENT_STREAM}},
    *after("The number of the last event received.", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}),
    errors=(NotFound,),
)  # fmt: skip


def routes(platform: Platform, heartbeat: float) -> Sequence[DescribedRoute]:
    """Return the routes under ``/api/runs``."""

    async def list_all(request: Request) -> Response:
        asked = request.query_params
        status, limit = asked.get("status"), _number(asked.get("limit", "100"), "limit")
        if status is not None and status not in list(RunStatus):
            raise MalformedRequest(f"status must be one of {', '.join(RunStatus)}.")
        if not 1 <= limit <= LARGEST_PAGE:
            raise MalformedRequest(f"limit must be from 1 to {LARGEST_PAGE}.")
        view = await view_of(platform, request.scope)
        found = view.runs(workflow=asked.get("workflow"), status=status, limit=limit)
        return json_answer({"runs": [run.to_dict(with_result=False) for run in found]}, view)

    async def show(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        with view.run(request.path_params["run_id"]).hold() as run:
            wait = seconds_to_wait(request.scope, headers_of(request.scope))
            if wait:
                with view.lease(), CallerLeaves(platform.timers, request.receive):
                    await run.wait(wait)
            return json_answer(run.to_dict(), view)

    async def cancel(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        run = view.run(request.path_params["run_id"])
        asked = run.cancel()
        return json_answer(run.to_dict() | {"cancelled": asked}, view, 202 if asked else 200)

    return [
        DescribedRoute("/api/runs", list_all, _LIST),
        DescribedRoute("/api/runs/{run_id}", show, _SHOW),
        DescribedRoute("/api/runs/{run_id}/cancel", cancel, _CANCEL, "POST"),
        DescribedRoute("/api/runs/{run_id}/events", _RunEvents(platform, heartbeat), _FOLLOW),
    ]


class _RunEvents:
    """Streams the events of a run after the number in ``Last-Event-ID`` or ``?after=``."""

    def __init__(self, platform: Platform, heartbeat: float) -> None:
        self._platform = platform
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import Request

        request = Request(scope)
        view = await view_of(self._platform, scope)
        run = view.run(scope["path_params"]["run_id"])
        given = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
        last = _number(given, "Last-Event-ID")
        if scope["method"] == "HEAD":
            await Response(media_type="text/event-stream")(scope, receive, send)
            return
        caller = CallerLeaves(self._platform.timers, receive)
        await send_events(run, last, self._heartbeat, caller, view.lease(), send)


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise MalformedRequest(f"{name} must be a whole number.")
    return int(text)
