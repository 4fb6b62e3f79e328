"""``/api/events``: the events of the caller's runs and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from nexus_api.event_stream import send_followed
from nexus_api.operations import EVENT_STREAM, STRING, DescribedRoute, after, operation, query
from nexus_api.translate import CallerLeaves, view_of
from nexus_core import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core import Platform
    from nexus_core.server.channel import Receive, Scope, Send


_FOLLOW = operation(
    "Events", "Follow the events of your runs and sessions (server-sent events).",
    {200: {"description": "Events.", "content": EVENT_STREAM}},
    *after("The id of the last event received.", STRING), query("session", STRING), errors=(NotFound,),
)  # fmt: skip


def routes(platform: Platform, heartbeat: float) -> Sequence[DescribedRoute]:
    """Return the route."""
    return [DescribedRoute("/api/events", _EventLogStream(platform, heartbeat), _FOLLOW)]


class _EventLogStream:
    """Streams events after ``Last-Event-ID`` or ``?after=``, or new ones; with ``?session=`` those of one session."""

    def __init__(self, platform: Platform, heartbeat: float) -> None:
        self._platform = platform
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        view = await view_of(self._platform, scope)
        last = request.headers.get("last-event-id") or request.query_params.get("after")
        follower = await view.events(last or None, session_id=request.query_params.get("session"))
        try:
            if scope["method"] == "HEAD":
                await Response(media_type="text/event-stream")(scope, receive, send)
                return
            caller = CallerLeaves(self._platform.timers, receive)
            await send_followed(follower, self._heartbeat, caller, view.lease(), send)
        finally:
            follower.close()
