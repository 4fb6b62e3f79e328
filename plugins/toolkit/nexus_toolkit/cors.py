"""`Cors`: lets pages of allowed origins send requests and read the responses (Fetch standard, section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.errors import OriginNotAllowed
from nexus_core.server.asgi import send_error

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.server.channel import ASGIApp, Message, Receive, Scope, Send
    from nexus_toolkit.hosts import HostOriginGuard

SECONDS = 600
"""Seconds for which a browser may cache the response to a preflight."""

EXPOSED = (
    b"RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, Allow, Accept-Encoding, Location, "
    b"Preference-Applied, Mcp-Session-Id, Mcp-Protocol-Version"
)
"""Response headers that pages may read."""

_VARY = (b"vary", b"Origin")


class Cors:
    """ASGI middleware. Preflights are answered before authentication: they carry no credential.

    Cookies of another origin's pages are never accepted. Which headers a page may send is not limited beyond that: an
    origin is trusted, or it is not.

    Args:
        app: The application behind it. It checks the origin of requests that change something.
        guard: Decides which origins may call.
        methods: The methods of the channel.
    """

    def __init__(self, app: ASGIApp, guard: HostOriginGuard, methods: bytes) -> None:
        self._app = app
        self._guard = guard
        self._methods = methods

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a preflight, or pass a request on and add headers to its response."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None:
            return self._app(scope, receive, _adding(send, [_VARY]))
        is_allowed = self._guard.lists_origin(scope, origin)
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            return self._preflight(scope, headers, origin, send, is_allowed=is_allowed)
        added = [_VARY]
        if is_allowed:
            added += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED)]
        return self._app(scope, receive, _adding(send, added))

    async def _preflight(
        self, scope: Scope, headers: dict[bytes, bytes], origin: bytes, send: Send, *, is_allowed: bool
    ) -> None:
        if not is_allowed:
            error = OriginNotAllowed("Pages of this origin may not call this URL.")
            await send_error(scope, send, error, headers=[_VARY])
            return
        answer = [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", self._methods),
            (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"*")),
            (b"access-control-max-age", b"%d" % SECONDS),
            (b"vary", b"Origin, Access-Control-Request-Headers"),
        ]
        if headers.get(b"access-control-request-private-network") == b"true":
            answer.append((b"access-control-allow-private-network", b"true"))
        await send({"type": "http.response.start", "status": 204, "headers": answer})
        await send({"type": "http.response.body", "body": b""})


def _adding(send: Send, added: list[tuple[bytes, bytes]]) -> Send:
    def send_more(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *added]
        return send(message)

    return send_more
