"""Refuses what a page of a foreign origin sends: a browser attaches its user's network position to every request."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nexus_core import PermissionDenied
from nexus_core.asgi import send_error

if TYPE_CHECKING:
    from collections.abc import Collection

    from nexus_core.channel import ASGIApp, Receive, Scope, Send

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class OriginCheck:
    """Lets requests that change something, and WebSockets, pass only from the same origin or an allowed one.

    Programs send no Origin header and are not concerned. Reading is left to the browser's own same-origin policy,
    which ``cors_origins`` loosens; WebSockets have none, and simple POST requests are sent without asking.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "websocket" or scope.get("method") not in _READING:
            headers = scope["headers"]
            origin = next((value for name, value in headers if name == b"origin"), None)
            if origin is not None and not self._allows(origin.decode("latin-1"), headers):
                error = PermissionDenied("Pages of this origin may not call the API; see cors_origins.")
                await send_error(scope, send, error)
                return
        await self._app(scope, receive, send)

    def _allows(self, origin: str, headers: list[tuple[bytes, bytes]]) -> bool:
        if "*" in self._allowed or origin in self._allowed:
            return True
        host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1")
        return bool(host) and urlsplit(origin).netloc == host
