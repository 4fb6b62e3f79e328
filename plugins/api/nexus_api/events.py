"""``/api/events``: what happens to the caller's runs and sessions, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nexus_api.event_stream import send_followed
from nexus_api.translate import CallerLeaves, view_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core import Platform
    from nexus_core.server.channel import Receive, Scope, Send


def routes(platform: Platform, heartbeat: float) -> Sequence[Route]:
    """Return the route."""
    return [Route("/api/events", _Events(platform, heartbeat), methods=["GET"])]


class _Events:
    """Streams events from the one after ``Last-Event-ID`` or ``?after=`` on, or from now on; ``?session=`` for one."""

    def __init__(self, platform: Platform, heartbeat: float) -> None:
        self._platform = platform
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        view = await view_of(self._platform, scope)
        after = request.headers.get("last-event-id") or request.query_params.get("after")
        follower = await view.events(after or None, session_id=request.query_params.get("session"))
        try:
            if scope["method"] == "HEAD":
                await Response(media_type="text/event-stream")(scope, receive, send)
                return
            caller = CallerLeaves(self._platform.alarms, receive)
            await send_followed(follower, self._heartbeat, caller, view.lease(), send)
        finally:
            follower.close()
