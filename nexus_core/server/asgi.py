"""The ASGI application in front of the channels: it sends each request to the channel that its path belongs to."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

import msgspec

from nexus_core.errors import (
    AuthenticationError,
    ConfigurationError,
    NotFound,
    Overloaded,
    RateLimited,
    UnsupportedEncoding,
)
from nexus_core.server.public_address import base_url_of as base_url_of
from nexus_core.server.public_address import local_path as local_path
from nexus_core.server.public_address import origin_of as origin_of
from nexus_core.types.principal import RateLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from nexus_core.errors import NexusError
    from nexus_core.server.channel import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How long requests are refused after a start that has failed, before one of them tries again."""


class PathRouter:
    """Dispatches by the longest path prefix, and answers what fits none with 404.

    Args:
        apps: Prefixes such as ``/mcp`` and the applications behind them. They see the whole path.
    """

    def __init__(self, apps: Iterable[tuple[str, ASGIApp]]) -> None:
        by_length = sorted(apps, key=lambda each: len(each[0]), reverse=True)
        self._apps = [(prefix.rstrip("/"), app) for prefix, app in by_length]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass a request or a WebSocket on to the application that its path belongs to."""
        path = local_path(scope)
        for prefix, app in self._apps:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("/", ""):
                return app(scope, receive, send)
        return send_error(scope, send, NotFound("Not found."))


class MountedApp:
    """`PathRouter` for another server: it starts the platform with the server, or at the first request.

    A server that sends lifespan events gets start-up and shutdown; a mounted application never sees them. There, what
    prevents the start is the log's to tell: the application around it must not fail with each request.
    """

    def __init__(self, start: Callable[[], Awaitable[ASGIApp]], stop: Callable[[], Awaitable[None]]) -> None:
        self._start = start
        self._stop = stop
        self._has_ended = False
        self._retry_at = 0.0
        self._complaint = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and start the platform first if nobody has."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._has_ended:
            await _refuse(scope, send, "The platform has been stopped.")
        elif (app := await self._started()) is not None:
            await app(scope, receive, send)
        else:
            await _refuse(scope, send, "The platform could not be started; the server's log has the reason.")

    async def _started(self) -> ASGIApp | None:
        if self._retry_at and time.monotonic() < self._retry_at:
            return None
        try:
            app = await self._start()
        except Exception as exc:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._complain(exc)
            return None
        self._retry_at, self._complaint = 0.0, ""
        return app

    def _complain(self, exc: Exception) -> None:
        """Log why the platform does not start, once for each reason."""
        if self._complaint != (complaint := str(exc)):
            self._complaint = complaint
            unforeseen = None if isinstance(exc, ConfigurationError) else exc
            log.error("The platform could not be started: %s", complaint, exc_info=unforeseen)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._has_ended = False
        try:
            await self._start()
        except Exception as exc:
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._has_ended = True  # a late request must not start what nobody would stop
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})


async def _refuse(scope: Scope, send: Send, reason: str) -> None:
    await send_error(scope, send, Overloaded(reason, retry_after=RETRY_SECONDS), close=True)


async def read_body(receive: Receive) -> bytes | None:
    """Return a request's whole body, or None when the caller has left. `Guard` bounds it in size and time."""
    message = await receive()
    parts: list[bytes] = []
    while message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            return b"".join((*parts, body)) if parts else body
        parts.append(body)
        message = await receive()
    return None


async def send_error(
    scope: Scope, send: Send, error: NexusError, *, close: bool = False, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with problem details (RFC 9457), or what takes their place.

    A WebSocket handshake is answered the same way, if the server is able to; else it is refused.

    Args:
        scope: The request's scope.
        send: Where the answer goes.
        error: The error.
        close: Whether the connection must not be used again, because the request was not read to its end.
        headers: Further headers of the answer.
    """
    prefix = ""
    if scope["type"] == "websocket":
        prefix = "websocket."
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
            return
    kind = b"application/problem+json" if error.reply is None else b"application/json"
    every = [(b"content-type", kind), *error_headers(error, scope), *headers]
    if close and scope.get("http_version") not in ("2", "3"):  # the others let several requests share a connection
        every.append((b"connection", b"close"))
    body = msgspec.json.encode(error.answer())
    every.append((b"content-length", str(len(body)).encode()))
    await send({"type": f"{prefix}http.response.start", "status": error.status, "headers": every})
    await send({"type": f"{prefix}http.response.body", "body": body})


def error_headers(error: NexusError, scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the headers that an error brings along.

    ``Retry-After`` in whole seconds, at least 1; ``WWW-Authenticate`` where a credential is missing or wrong;
    ``Accept-Encoding`` where a body is encoded otherwise.
    """
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if isinstance(error, AuthenticationError):
        challenge = error.challenge.replace("{origin}", base_url_of(scope))
        headers.append((b"www-authenticate", challenge.encode("latin-1", "replace")))
    if isinstance(error, UnsupportedEncoding):
        headers.append((b"accept-encoding", b"gzip"))  # in an answer: what requests may use (RFC 9110, section 12.5.3)
    if isinstance(error, RateLimited):
        headers += rate_limit_headers(_limit_of(error))
    return headers


def rate_limit_headers(limit: RateLimit | None) -> list[tuple[bytes, bytes]]:
    """Return what is left of a caller's budget as headers (draft-ietf-httpapi-ratelimit-headers-10)."""
    if limit is None:
        return []
    policy = b'"default";q=%d;w=%d' % (limit.limit, math.ceil(limit.window))
    left = b'"default";r=%d;t=%d' % (limit.remaining, math.ceil(limit.reset))
    return [(b"ratelimit-policy", policy), (b"ratelimit", left)]


def _limit_of(error: RateLimited) -> RateLimit | None:
    members = {name: error.details.get(name) for name in RateLimit.__dataclass_fields__}
    return None if None in members.values() else RateLimit(**members)  # type: ignore[arg-type]
