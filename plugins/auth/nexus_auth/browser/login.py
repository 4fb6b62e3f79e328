"""`BrowserLogin`: the routes ``/auth/login``, ``/auth/callback``, ``/auth/session`` and ``/auth/logout``."""

from __future__ import annotations

import secrets
from hmac import compare_digest
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from nexus_toolkit.endpoints import Endpoint

from nexus_auth.browser.sessions import csrf_token
from nexus_auth.oauth.client import code_in
from nexus_auth.rejection import Rejected, Unavailable
from nexus_core.errors import (
    AuthenticationError,
    BackendUnavailable,
    HostNotAllowed,
    MethodNotAllowed,
    NexusError,
    NotFound,
)
from nexus_core.pipeline.invocation import Caller
from nexus_core.server.asgi import base_url_of, local_path, origin_of, send_error
from nexus_core.server.caller import headers_of
from nexus_core.server.listeners import is_loopback
from nexus_core.types.addresses import parse_origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from nexus_auth.browser.sessions import BrowserSessions
    from nexus_auth.credential_cache import VerifiedCredential
    from nexus_auth.oauth.client import OAuthClient
    from nexus_core import Platform
    from nexus_core.server.channel import Receive, Scope, Send

PREFIX = "/auth"
LOGIN_SECONDS = 600
"""Time limit of a login."""

HOME = "/docs"
"""Where a login leads to by default."""

_LONGEST_NEXT = 1000


class BrowserLogin:
    """The ASGI application.

    Args:
        platform: The platform.
        client: The OAuth2 client.
        sessions: The sessions.
        verified: Verifies a bearer token; raises `Rejected` and `Unavailable`.
        base_url: The platform's public URL; None for the one that the browser used.
    """

    endpoints = (
        Endpoint(f"{PREFIX}/login", ("GET",), "Redirect a browser to the issuer, to log in.", (303,)),
        Endpoint(
            f"{PREFIX}/callback", ("GET",), "Start the session of a browser that returns from the issuer.", (303,)
        ),
        Endpoint(f"{PREFIX}/session", ("GET",), "Show the user of the browser session, and its CSRF token.", (200,)),
        Endpoint(f"{PREFIX}/logout", ("POST",), "End the browser session.", (204,)),
    )

    def __init__(
        self, platform: Platform, client: OAuthClient, sessions: BrowserSessions,
        verified: Callable[[str], Awaitable[tuple[str, VerifiedCredential]]], base_url: str | None,
    ) -> None:  # fmt: skip
        self._platform = platform
        self._client = client
        self._sessions = sessions
        self._verified = verified
        self._base_url = None if base_url is None else base_url.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        try:
            response = await self._answer(scope)
        except NexusError as exc:
            await send_error(scope, send, exc, headers=[(b"cache-control", b"no-store")])
            return
        response.headers["cache-control"] = "no-store"
        await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        from starlette.requests import Request

        path = local_path(scope).removeprefix(PREFIX)
        if scope["type"] != "http" or path not in _METHODS:
            raise NotFound("Not found.")
        if scope["method"] not in _METHODS[path]:
            raise MethodNotAllowed(f"Allowed here: {', '.join(_METHODS[path])}.")
        request = Request(scope)
        try:
            answer: Callable[[Request], Awaitable[Response]] = getattr(self, f"_{path[1:]}")
            return await answer(request)
        except Rejected as exc:
            raise AuthenticationError(f"The login failed: {exc}.") from None
        except Unavailable as exc:
            raise BackendUnavailable(f"The login is unavailable: {exc}.", retry_after=1.0) from None

    def _base(self, request: Request) -> str:
        """Return the platform's public URL, which the issuer redirects to with the code.

        Raises:
            HostNotAllowed: It is not set, and the Host header is not a host of this platform.
        """
        if self._base_url is None and not self._is_ours(request.scope):
            raise HostNotAllowed(
                "Logins are not allowed at the host in the Host header: set public_url (NEXUS_PUBLIC_URL), or "
                "auth_resource_url, to the URL under which browsers reach this platform."
            )
        return self._base_url or base_url_of(request.scope)

    def _is_ours(self, scope: Scope) -> bool:
        origin, options = parse_origin(origin_of(scope)), self._platform.options
        server = scope.get("server")
        ours = {each.lower() for each in (options.host, *options.allowed_hosts, str(server[0]) if server else "")}
        if origin is None:
            return False
        return is_loopback(origin.host.name) or origin.host.name in ours or origin.host.text in ours

    def _redirect_uri(self, request: Request) -> str:
        return f"{self._base(request)}{PREFIX}/callback"

    async def _login(self, request: Request) -> Response:
        """Redirect the browser to the issuer. A separate cookie holds what must match on its return."""
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        url = await self._client.authorization_url(self._redirect_uri(request), state, verifier)
        response = _redirect(url)
        kept = f"{state}.{verifier}.{quote(_local(request.query_params.get('next', '')), safe='')}"
        self._set(response, request, self._sessions.login_cookie, kept, LOGIN_SECONDS)
        return response

    async def _callback(self, request: Request) -> Response:
        """Start the session of a browser that returns from the issuer, if it has the cookie of the login."""
        query, cookies = request.query_params, request.cookies
        # The path is last, because it may contain dots.
        state, verifier, following = [*cookies.get(self._sessions.login_cookie, "").split(".", 2), "", "", ""][:3]
        if not state or not compare_digest(query.get("state", "").encode(), state.encode()):
            raise Rejected("this browser has not started the login, or it took too long")
        code = code_in(query, await self._client.issuer.recent())
        token = await self._client.redeem(code, self._redirect_uri(request), verifier)
        _, verified = await self._verified(f"Bearer {token.access}")
        await self._sessions.use_state(state, LOGIN_SECONDS, verified.principal.identity)
        earlier = self._sessions.id_of(headers_of(request.scope))
        if earlier is not None:
            await self._sessions.end(earlier)
        session_id, seconds = await self._sessions.begin(token.access, token.expires_at, verified.principal.identity)
        response = _redirect(self._base(request) + _local(unquote(following)))
        self._set(response, request, self._sessions.cookie, session_id, int(seconds))
        self._set(response, request, self._sessions.login_cookie, "", 0)
        return response

    async def _session(self, request: Request) -> Response:
        """Return the user who is logged in, and the CSRF token for state-changing requests."""
        from starlette.responses import JSONResponse

        session_id = self._sessions.id_of(headers_of(request.scope))
        if session_id is None:
            raise AuthenticationError("Not logged in.")
        caller = Caller("api", headers=headers_of(request.scope))
        await self._platform.authenticate(caller)
        principal = caller.principal
        assert principal is not None
        return JSONResponse(
            {"user_id": principal.user_id, "tenant_id": principal.tenant_id, "csrf_token": csrf_token(session_id)}
        )

    async def _logout(self, request: Request) -> Response:
        """End the browser's session."""
        from starlette.responses import Response

        session_id = self._sessions.id_of(headers_of(request.scope))
        if session_id is not None:
            await self._sessions.end(session_id)
        response = Response(status_code=204)
        self._set(response, request, self._sessions.cookie, "", 0)
        return response

    def _set(self, response: Response, request: Request, name: str, value: str, seconds: int) -> None:
        """Set a cookie that pages can't read and that other sites' forms do not send."""
        secure = self._base(request).startswith("https://")
        response.set_cookie(name, value, max_age=seconds, path="/", httponly=True, samesite="lax", secure=secure)


_METHODS = {each.path.removeprefix(PREFIX): each.methods for each in BrowserLogin.endpoints}


def _redirect(url: str) -> Response:
    from starlette.responses import RedirectResponse

    return RedirectResponse(url, 303)


def _local(path: Any) -> str:
    """Return a path of this platform, `HOME` for anything else: an open redirect would help phishing."""
    fits = isinstance(path, str) and len(path) <= _LONGEST_NEXT and path.isascii() and path.isprintable()
    if not fits or not path.startswith("/") or path[1:2] in ("/", "\\"):
        return HOME
    return str(path)
