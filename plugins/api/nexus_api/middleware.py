"""The middleware of the channel, in the order of ``api_middleware``."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any

from nexus_core.server.asgi import local_path
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_toolkit.hosts import HostOriginGuard

    from nexus_api.settings import ApiSettings
    from nexus_core.server.channel import ASGIApp, Message, Receive, Scope, Send

ACCESS_LOGGER = "nexus.access"
_CREDENTIAL = re.compile(r"(/(?:sessions|answers)/)[^/]+")
LONGEST_PATH = 300
"""Logged characters of a path."""


def in_front_of(app: ASGIApp, settings: ApiSettings, guard: HostOriginGuard) -> ASGIApp:
    """Return an application with the middleware of the options; the first is the outermost."""
    for entry in reversed(settings.api_middleware):
        if callable(entry):
            app = entry(app)
        elif entry in _MAKERS:
            app = _MAKERS[entry](app, settings, guard)
    return app


def _cors(app: ASGIApp, settings: ApiSettings, guard: HostOriginGuard) -> ASGIApp:
    if not settings.cors_origins:
        return app
    from nexus_toolkit.cors import Cors

    return Cors(app, guard, b"GET, POST, PATCH, DELETE")


def _compression(app: ASGIApp, settings: ApiSettings, _: HostOriginGuard) -> ASGIApp:
    if not settings.compression_level:
        return app
    from nexus_api.compression import compressed

    return compressed(app, settings.compression_level)


def _logging(app: ASGIApp, _: ApiSettings, __: HostOriginGuard) -> ASGIApp:
    return AccessLog(app)


_MAKERS: Mapping[str, Callable[[ASGIApp, ApiSettings, HostOriginGuard], ASGIApp]] = {
    "cors": _cors,
    "compression": _compression,
    "logging": _logging,
}


class AccessLog:
    """Logs each answered request: method, path, status, bytes of the response, milliseconds.

    In front of compression it counts compressed bytes; behind CORS it does not log preflights. Queries are not logged,
    since they may hold secrets, nor are tokens of links, and ids of sessions, which are credentials where
    authentication is off.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = logging.getLogger(ACCESS_LOGGER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle and log a request."""
        if scope["type"] not in ("http", "websocket") or not self._log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        seen = {"status": 0, "bytes": 0}

        async def count(message: Message) -> None:
            seen["status"] = message.get("status", message.get("code", seen["status"]))
            seen["bytes"] += len(message.get("body", b""))
            await send(message)

        begin = time.perf_counter()
        try:
            await self._app(scope, receive, count)
        finally:
            self._tell(scope, seen, time.perf_counter() - begin)

    def _tell(self, scope: Scope, seen: dict[str, int], seconds: float) -> None:
        method = printable(scope.get("method", "WebSocket"), 20)
        path = printable(_CREDENTIAL.sub(r"\1***", local_path(scope)), LONGEST_PATH)
        fields: dict[str, Any] = {"method": method, "path": path, **seen, "duration": seconds}
        self._log.info(
            "%s %s %s, %d bytes in %.1f ms", method, path, seen["status"] or "-", seen["bytes"], seconds * 1000,
            extra={f"http_{name}": value for name, value in fields.items()},
        )  # fmt: skip
