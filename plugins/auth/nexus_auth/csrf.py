"""`CsrfProtection`: refuses what another site's page makes a browser send with its cookie (cross-site request forgery).

The cookie is ``SameSite=Lax``, but another page of the same site, or an older browser, may send it all the same.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING

from nexus_auth.browser_sessions import csrf_token
from nexus_core.errors import OriginNotAllowed, PermissionDenied
from nexus_core.server.asgi import origin_of, send_error
from nexus_core.server.caller import headers_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_auth.browser_sessions import BrowserSessions
    from nexus_core.errors import NexusError
    from nexus_core.server.channel import ASGIApp, Receive, Scope, Send

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_ORIGIN = b"same-origin"


class CsrfProtection:
    """Middleware: requests that change something, and WebSockets, whose only credential is the cookie.

    Their browser has to say that they come from a page of this platform (Sec-Fetch-Site, or Origin where there is no
    TLS), and requests have to bring the token that only such a page can read (``GET /auth/session``). Whoever sends
    another credential is no browser that is being used.

    Args:
        app: What is behind.
        sessions: Knows the cookie.
        origin: The platform's; None for the one that the browser has used.
    """

    def __init__(self, app: ASGIApp, sessions: BrowserSessions, origin: str | None = None) -> None:
        self._app = app
        self._sessions = sessions
        self._origin = origin

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass a request on, or answer 403."""
        changes = scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in _READING)
        error = self._flaw(scope) if changes else None
        return self._app(scope, receive, send) if error is None else send_error(scope, send, error)

    def _flaw(self, scope: Scope) -> NexusError | None:
        headers = headers_of(scope)
        if b"authorization" in headers or b"x-api-key" in headers:
            return None
        session_id = self._sessions.id_of(headers)
        if session_id is None:
            return None
        origin = headers.get(b"origin", b"").decode("latin-1")
        if headers.get(b"sec-fetch-site") != _SAME_ORIGIN and origin != (self._origin or origin_of(scope)):
            return OriginNotAllowed("Only pages of this platform may act for who is logged in here.")
        given = headers.get(b"x-csrf-token", b"")
        if scope["type"] == "http" and not compare_digest(given, csrf_token(session_id).encode()):
            return PermissionDenied("The header X-CSRF-Token is missing or wrong: GET /auth/session has its value.")
        return None
