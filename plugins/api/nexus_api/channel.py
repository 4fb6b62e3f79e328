"""`ApiChannel`: the channel, its routes and its middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import Channel, NexusError, NotFound, ParameterSource
from nexus_core.errors import MethodNotAllowed
from nexus_core.server.asgi import local_path, send_error
from nexus_core.server.caller import headers_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from nexus_toolkit.hosts import HostOriginGuard
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nexus_api.execute import Execute
    from nexus_api.operations import DescribedRoute
    from nexus_api.settings import ApiSettings
    from nexus_core import Platform
    from nexus_core.server.channel import ASGIApp, Receive, Scope, Send

_BEFORE_NAME, _AFTER_NAME = "/api/workflows/", "/execute"
_LINKS = "/api/answers"


class ApiChannel(Channel):
    """REST, WebSocket and event streams under ``/api``, the documentation under ``/docs``."""

    name = "api"
    port_option = "api_port"
    paths = ("/",)
    parameter_source = ParameterSource.BODY
    takes_routes = True
    answers = _LINKS

    def __init__(self, platform: Platform, settings: ApiSettings) -> None:
        self.port = settings.api_port
        self._platform = platform
        self._settings = settings
        self._app: ASGIApp | None = None

    def asgi_app(self) -> ASGIApp:
        """Return the application; see `Channel.asgi_app`."""
        if self._app is None:
            self._app = build(self._platform, self._settings)
        return self._app


def build(platform: Platform, settings: ApiSettings) -> ASGIApp:
    """Return the channel's ASGI application."""
    from nexus_toolkit.hosts import HostOriginGuard

    from nexus_api.execute import Execute
    from nexus_api.middleware import in_front_of

    execute = Execute(platform, settings.event_heartbeat)
    guard = HostOriginGuard(platform.options, settings.cors_origins, origins_option="cors_origins")
    routes = _Routes(every_route(platform, settings, execute))
    return in_front_of(_Guarded(_CallsFirst(execute, routes), guard), settings, guard)


def every_route(platform: Platform, settings: ApiSettings, execute: Execute) -> list[BaseRoute]:
    """Return the routes: each is a `DescribedRoute`, or has an ``app`` with ``endpoints``."""
    from starlette.routing import Route, WebSocketRoute

    from nexus_api import documentation
    from nexus_api.websocket import WebSocketCalls

    described = described_routes(platform, settings)
    calls = WebSocketCalls(platform, settings.websocket_calls, settings.websocket_handshakes)
    return [
        Route(f"{_BEFORE_NAME}{{name}}{_AFTER_NAME}", execute, methods=["POST"]),
        *described,
        WebSocketRoute("/api/ws", calls),
        *documentation.routes(platform, settings.api_name, described),
    ]


def described_routes(platform: Platform, settings: ApiSettings) -> list[DescribedRoute]:
    """Return the routes that are the same for all workflows, each with its OpenAPI operation."""
    from nexus_api import answers, events, questions, repeats, runs, sessions, workflows

    heartbeat = settings.event_heartbeat
    return [
        *workflows.routes(platform),
        *runs.routes(platform, heartbeat),
        *repeats.routes(platform),
        *questions.routes(platform),
        *answers.routes(platform, _LINKS),
        *events.routes(platform, heartbeat),
        *sessions.routes(platform),
    ]


class _Guarded:
    """Refuses requests with a Host or Origin header that is not allowed."""

    def __init__(self, app: ASGIApp, guard: HostOriginGuard) -> None:
        self._app = app
        self._guard = guard

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        headers = headers_of(scope)
        if b"origin" in headers and local_path(scope).startswith(f"{_LINKS}/"):
            del headers[b"origin"]  # the link is the authority, whatever page it is used on: see nexus_api.answers
        try:
            self._guard.check(scope, headers)
        except NexusError as exc:
            return send_error(scope, send, exc)
        return self._app(scope, receive, send)


class _CallsFirst:
    """Passes calls of workflows straight to their endpoint: a search of the routing table costs as much as a call.

    The table has their route as well, for the methods that are not allowed.
    """

    def __init__(self, execute: ASGIApp, others: ASGIApp) -> None:
        self._execute = execute
        self._others = others

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] == "POST":
            path = local_path(scope)
            if path.startswith(_BEFORE_NAME) and path.endswith(_AFTER_NAME):
                name = path[len(_BEFORE_NAME) : -len(_AFTER_NAME)]
                if name and "/" not in name:
                    scope["path_params"] = {"name": name}
                    return self._execute(scope, receive, send)
        return self._others(scope, receive, send)


class _Routes:
    """The routing table, with problem details for its errors.

    A Starlette application would answer unexpected exceptions itself, in plain text, and raise them as well. Here the
    request guard handles them, as on every other channel.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        from starlette.exceptions import HTTPException
        from starlette.middleware.exceptions import ExceptionMiddleware
        from starlette.routing import Router

        # A redirect would take the address from the Host header.
        self._router = Router(routes, redirect_slashes=False)
        handlers = {HTTPException: self._http_error, NexusError: _nexus_error}
        self._app = ExceptionMiddleware(self._router, handlers)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope["app"] = self  # without an application, the router would answer itself
        return self._app(scope, receive, send)

    async def _http_error(self, request: Request, exc: Any) -> Any:
        if exc.status_code != 405:
            return _Answer(NotFound("Not found."))
        allowed = ", ".join(sorted(self._methods(request.scope)))
        return _Answer(MethodNotAllowed(f"Allowed here: {allowed}."), (b"allow", allowed.encode()))

    def _methods(self, scope: Scope) -> set[str]:
        """Return the methods of all routes of an address: a router knows those of the first one only."""
        from starlette.routing import Match, Route

        fitting = (each for each in self._router.routes if isinstance(each, Route))
        return {method for each in fitting if each.matches(scope)[0] is not Match.NONE for method in each.methods or ()}


class _Answer:
    """An ASGI response that sends problem details."""

    def __init__(self, error: NexusError, *headers: tuple[bytes, bytes]) -> None:
        self._error = error
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_error(scope, send, self._error, headers=self._headers)


async def _nexus_error(_: Request, exc: Any) -> Any:
    return _Answer(exc)
