"""Refuses what a page of a foreign origin sends: a browser attaches its user's network position to every request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import NexusError
from nexus_core.server.asgi import send_error

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_toolkit.hosts import HostOriginGuard

    from nexus_core.server.channel import ASGIApp, Receive, Scope, Send

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class OriginCheck:
    """Lets requests that change something, and WebSockets, pass only from the same origin or an allowed one.

    Programs send no Origin header and are not concerned. Reading is left to the browser's own same-origin policy,
    which ``cors_origins`` loosens; WebSockets have none, and simple POST requests are sent without asking.

    Args:
        app: What is behind.
        guard: Knows hosts and origins.
    """

    def __init__(self, app: ASGIApp, guard: HostOriginGuard) -> None:
        self._app = app
        self._guard = guard

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, or answer 400, 403 or 421."""
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        try:
            self._guard.check_host(scope, host)
            if origin is not None and (scope["type"] == "websocket" or scope["method"] not in _READING):
                self._guard.check_origin(scope, origin, host)
        except NexusError as exc:
            return send_error(scope, send, exc)
        return self._app(scope, receive, send)
