"""``/api/runs``: running and finished runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from nexus_core import MalformedRequest, NotFound
from nexus_core.runs.listing import FILTERS, LARGEST_PAGE, STEP_RANGE, filter_of
from nexus_core.server.caller import headers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from nexus_core import Platform
    from nexus_core.server.channel import Receive, Scope, Send

_RUN = described("The run.", ref("Run"))
_LIMIT = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}
_SCHEMAS: dict[str, dict[str, Any]] = {"status": STATUS, "limit": _LIMIT}
_LIST = operation(
    "Runs", "List runs, newest first.", {200: described("The runs, and `next` where older ones may follow.", OBJECT)},
    *(query(name, _SCHEMAS.get(name, STRING)) for name in FILTERS),
)  # fmt: skip
_SHOW = operation("Runs", "Show a run.", {200: _RUN}, WAIT, errors=(NotFound,))
_CANCEL = operation(
    "Runs", "Cancel a run.", {200: _RUN, 202: described("Cancellation requested.", ref("Run"))}, errors=(NotFound,)
)
_STEPS = operation(
    "Runs", "List the steps of a run, in the order in which they began.",
    {200: described("The steps, and `next` where further ones may follow.", ref("Steps"))},
    query("after", {"type": "integer", "minimum": 0}, STEP_RANGE["after"]), query("limit", _LIMIT, STEP_RANGE["limit"]),
    errors=(NotFound,),
)  # fmt: skip
_FOLLOW = operation(
    "Runs", "Follow a run (server-sent events).", {200: {"description": "Events.", "content": EVENT_STREAM}},
    *after("The number of the last event received.", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}),
    errors=(NotFound,),
)  # fmt: skip


def routes(platform: Platform, heartbeat: float) -> Sequence[DescribedRoute]:
    """Return the routes under ``/api/runs``."""

    async def list_all(request: Request) -> Response:
        wanted = filter_of({name: request.query_params.get(name) for name in FILTERS})
        view = await view_of(platform, request.scope)
        return json_answer(await view.page(wanted), view)

    async def show(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        with (await view.run(request.path_params["run_id"])).hold() as run:
            wait = seconds_to_wait(request.scope, headers_of(request.scope))
            if wait:
                with view.lease(), CallerLeaves(platform.timers, request.receive):
                    await run.settled(wait)
            response = json_answer(run.to_dict(), view)
            if wait and run.questions:  # the next wait for it ends at once, too
                response.headers["retry-after"] = "1"
            return response

    async def cancel(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        run = await view.run(request.path_params["run_id"])
        asked = await view.cancel(run)
        return json_answer(run.to_dict() | {"cancelled": asked}, view, 202 if asked else 200)

    async def steps(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        asked = {name: request.query_params.get(name) for name in STEP_RANGE}
        return json_answer(await view.steps_page(request.path_params["run_id"], asked), view)

    return [
        DescribedRoute("/api/runs", list_all, _LIST),
        DescribedRoute("/api/runs/{run_id}", show, _SHOW),
        DescribedRoute("/api/runs/{run_id}/cancel", cancel, _CANCEL, "POST"),
        DescribedRoute("/api/runs/{run_id}/steps", steps, _STEPS),
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
        run = await view.run(scope["path_params"]["run_id"])
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
