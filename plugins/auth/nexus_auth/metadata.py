"""What this platform says of itself to clients that look for a token: protected resource metadata (RFC 9728)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nexus_auth.challenge import METADATA_PATH, RESOURCE_PATHS
from nexus_core.errors import MethodNotAllowed, NotFound
from nexus_core.server.asgi import base_url_of, local_path, send_error
from nexus_core.server.channel import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.server.channel import Receive, Scope, Send

SECONDS = 300
"""For how long clients may keep an answer."""

_HEADERS = [
    (b"access-control-allow-origin", b"*"),  # nothing in it is secret, and clients in browsers need it
    (b"access-control-allow-methods", b"GET"),
    (b"access-control-allow-headers", b"*"),
    (b"cache-control", b"public, max-age=%d" % SECONDS),
    (b"vary", b"host"),
]


def metadata_routes(issuer: Callable[[], str], resource_url: str | None) -> list[Route]:
    """Return the routes of one platform, one for each channel that listens.

    Args:
        issuer: Returns what the issuer calls itself.
        resource_url: The platform's address; None for the one that is asked.
    """
    base = None if resource_url is None else resource_url.rstrip("/")
    return [
        Route(METADATA_PATH + path, ResourceMetadata(issuer, base, path), channel)
        for channel, path in RESOURCE_PATHS.items()
    ]


class ResourceMetadata:
    """The ASGI application that answers for one channel.

    It says nothing of scopes: their names are those of permissions, and would tell what workflows there are.

    Args:
        issuer: Returns what the issuer calls itself.
        base: The platform's address; None for the one that is asked.
        path: Where the channel is below that.
    """

    def __init__(self, issuer: Callable[[], str], base: str | None, path: str) -> None:
        self._issuer = issuer
        self._base = base
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or local_path(scope) != METADATA_PATH + self._path:
            await send_error(scope, send, NotFound("Nothing answers at this address."))
        elif scope["method"] == "OPTIONS":
            await _answer(send, 204, b"")
        elif scope["method"] not in ("GET", "HEAD"):
            allow = [(b"allow", b"GET, HEAD, OPTIONS")]
            await send_error(scope, send, MethodNotAllowed("Only GET answers here."), headers=allow)
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
