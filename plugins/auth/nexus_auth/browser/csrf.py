"""`CsrfProtection`: rejects cross-site requests with the login cookie (cross-site request forgery).

The cookie is ``SameSite=Lax``, but another host of the same site, or an older browser, may still send it.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING

from nexus_auth.browser.sessions import csrf_token
from nexus_core.errors import OriginNotAllowed, PermissionDenied
from nexus_core.server.asgi import local_path, origin_of, send_error
from nexus_core.server.caller import headers_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from nexus_auth.browser.sessions import BrowserSessions
    from nexus_core.errors import NexusError
    from nexus_core.server.channel import ASGIApp, Receive, Scope, Send

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_ORIGIN = b"same-origin"


class CsrfProtection:
    """Middleware that checks state-changing requests, and WebSockets, whose only credential is the cookie.

    They must come from a page of this platform (``Sec-Fetch-Site``, or ``Origin`` without TLS), and requests must have
    the token that only such a page can read (``GET /auth/session``). A request with another credential is not from an
    abused browser. Answers by link (`Channel.answers`) are not checked: there the link is the only authority, and the
    cookie is not read.

    Args:
        app: The application.
        sessions: Reads the cookie.
        origin: The platform's origin; None for the one that the browser used.
        links: Returns the paths below which links to questions are.
    """

    def __init__(
        self, app: ASGIApp, sessions: BrowserSessions, origin: str | None = None,
        links: Callable[[], Iterable[str]] = tuple,
    ) -> None:  # fmt: skip
        self._app = app
        self._sessions = sessions
        self._origin = origin
        self._links = links

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass a request on, or respond with 403."""
        changes = scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in _SAFE_METHODS)
        error = self._check(scope) if changes else None
        return self._app(scope, receive, send) if error is None else send_error(scope, send, error)

    def _check(self, scope: Scope) -> NexusError | None:
        headers = headers_of(scope)
        if b"authorization" in headers or b"x-api-key" in headers:
            return None
        session_id = self._sessions.id_of(headers)
        if session_id is None or self._is_link(scope):
            return None
        origin = headers.get(b"origin", b"").decode("latin-1")
        if headers.get(b"sec-fetch-site") != _SAME_ORIGIN and origin != (self._origin or origin_of(scope)):
            return OriginNotAllowed("A request with the login cookie must come from a page of this platform.")
        given = headers.get(b"x-csrf-token", b"")
        if scope["type"] == "http" and not compare_digest(given, csrf_token(session_id).encode()):
            return PermissionDenied("The header X-CSRF-Token is missing or wrong: GET /auth/session has its value.")
        return None

    def _is_link(self, scope: Scope) -> bool:
        path = local_path(scope)
        return scope["type"] == "http" and any(path.startswith(f"{each}/") for each in self._links())
