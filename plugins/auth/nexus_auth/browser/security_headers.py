"""`SecurityHeaders`: security headers for every response."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.server.channel import ASGIApp, Message, Receive, Scope, Send

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Added unless the response has them itself. A response for one caller must not be cached for another."""

STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
"""Over HTTPS: no plain HTTP for a year."""


class SecurityHeaders:
    """Middleware that adds the headers.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass a request on, and add headers to its response."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        added = (*HEADERS, STRICT_TRANSPORT) if scope.get("scheme") == "https" else HEADERS

        def send_more(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                there = {name.lower() for name, _ in headers}
                headers += [each for each in added if each[0] not in there]
                message["headers"] = headers
            return send(message)

        return self._app(scope, receive, send_more)
