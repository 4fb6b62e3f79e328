"""Protected resource metadata (RFC 9728): clients learn from them where to get a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from nexus_toolkit.endpoints import Endpoint

from nexus_auth.challenge import METADATA_PATH, RESOURCE_PATHS
from nexus_core.errors import MethodNotAllowed, NotFound
from nexus_core.server.asgi import base_url_of, local_path, send_error
from nexus_core.server.channel import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.server.channel import Receive, Scope, Send

SECONDS = 300
"""Seconds for which clients may cache a response."""

_HEADERS = [
    (b"access-control-allow-origin", b"*"),  # not secret, and clients in browsers need it
    (b"access-control-allow-methods", b"GET"),
    (b"access-control-allow-headers", b"*"),
    (b"cache-control", b"public, max-age=%d" % SECONDS),
    (b"vary", b"host"),
]


def metadata_routes(issuer: Callable[[], str], resource_url: str | None) -> list[Route]:
    """Return the routes, one for each channel with a port.

    Args:
        issuer: Returns the issuer's name.
        resource_url: The platform's public URL; None for the one that the client used.
    """
    base = None if resource_url is None else resource_url.rstrip("/")
    return [
        Route(METADATA_PATH + path, ResourceMetadata(issuer, base, path), channel)
        for channel, path in RESOURCE_PATHS.items()
    ]


class ResourceMetadata:
    """The ASGI application with the metadata of one channel.

    They have no scopes: these are the names of permissions, and would reveal which workflows exist.

    Args:
        issuer: Returns the issuer's name.
        base: The platform's public URL; None for the one that the client used.
        path: The channel's path below it.
    """

    endpoints = tuple(
        Endpoint(
            METADATA_PATH + path, ("GET",), "Protected resource metadata (RFC 9728).", (200,), port=f"{channel}_port"
        )
        for channel, path in RESOURCE_PATHS.items()
    )

    def __init__(self, issuer: Callable[[], str], base: str | None, path: str) -> None:
        self._issuer = issuer
        self._base = base
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        if scope["type"] != "http" or local_path(scope) != METADATA_PATH + self._path:
            await send_error(scope, send, NotFound("Not found."))
        elif scope["method"] == "OPTIONS":
            await _answer(send, 204, b"")
        elif scope["method"] not in ("GET", "HEAD"):
            allow = [(b"allow", b"GET, HEAD, OPTIONS")]
            await send_error(scope, send, MethodNotAllowed("Allowed here: GET."), headers=allow)
        else:
            await _answer(send, 200, self._document(scope), scope["method"])

    def _document(self, scope: Scope) -> bytes:
        members = {
            "resource": (self._base or base_url_of(scope)) + self._path,
            "authorization_servers": [self._issuer()],
            "bearer_methods_supported": ["header"],
            "resource_name": "Nexus",
        }
        return msgspec.json.encode(members)


async def _answer(send: Send, status: int, body: bytes, method: str = "") -> None:
    about = [] if status == 204 else [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": about + _HEADERS})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
