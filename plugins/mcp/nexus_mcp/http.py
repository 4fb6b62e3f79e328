"""`HttpFront`: checks and authenticates requests before the SDK, which it does not need to be imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from nexus_toolkit.bodies import decoded

from nexus_core import MalformedRequest, NexusError, jsontext
from nexus_core.errors import MethodNotAllowed, NotFound
from nexus_core.server.asgi import error_headers, local_path, read_body, send_error
from nexus_core.server.caller import headers_of
from nexus_mcp.bound_stream import BoundStream
from nexus_mcp.caller import BODY, CALLER, caller_key, caller_of_scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nexus_toolkit.hosts import HostOriginGuard

    from nexus_core import Caller, Platform
    from nexus_core.server.channel import Message, Receive, Scope, Send
    from nexus_mcp.transport import HttpTransport

PATH = "/mcp"
PARSE_ERROR = -32700

_HANDSHAKE_VERSIONS = frozenset({b"2024-11-05", b"2025-03-26", b"2025-06-18", b"2025-11-25"})
"""Protocol versions with sessions. A request with another version is stateless."""


class HttpFront:
    """The channel's ASGI application.

    Args:
        guard: Decides on Host and Origin headers.
        platform: Authenticates callers, and counts new sessions for rate limits.
        transport: Returns the transport, once it is loaded.

    Attributes:
        streams: Whether clients may open a stream for messages of the server.
    """

    streams = True

    def __init__(
        self,
        guard: HostOriginGuard,
        platform: Platform,
        transport: Callable[[], Awaitable[HttpTransport]],
    ) -> None:
        self._guard = guard
        self._platform = platform
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on."""
        if scope["type"] == "lifespan":
            return
        if scope["type"] != "http" or _path(scope) != PATH:
            await send_error(scope, send, NotFound(f"Not found; MCP is at {PATH}."))
            return
        headers = headers_of(scope)
        try:
            self._guard.check(scope, headers)
            _refuse_repeated(scope)
            if scope["method"] == "GET" and not self.streams:
                raise MethodNotAllowed("Streams are off (enable_streaming).")
            caller = scope[CALLER] = caller_of_scope(scope, headers)
            await self._platform.authenticate(caller)
            if scope["method"] == "POST":
                checked = await _checked_body(scope, headers, receive, self._platform.options.max_body_bytes)
                if checked is None:
                    return
                scope, receive = checked
        except NexusError as exc:
            await _refuse(scope, send, exc)
            return
        transport = await self._transport()
        if scope["method"] == "GET":
            stream = BoundStream(scope, send)
            answer = self._pass_on(caller, transport, scope, receive, stream.send)
            await stream.serve(self._platform.credentials.lease(caller), answer)
        else:
            await self._pass_on(caller, transport, scope, receive, send)

    async def _pass_on(
        self, caller: Caller, transport: HttpTransport, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = headers_of(scope)
        if _is_sessionless(headers):
            await transport.handle(scope, receive, send)
        elif (session_id := headers.get(b"mcp-session-id")) is not None:
            await transport.handle_in_session(session_id.decode("latin-1"), scope, receive, send)
        else:
            await self._open_session(caller, transport, scope, receive, send)

    async def _open_session(
        self, caller: Caller, transport: HttpTransport, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await self._platform.view(caller)  # a session counts as a call
            await transport.open_session(caller_key(caller), scope, receive, send)
        except NexusError as exc:
            await _refuse(scope, send, exc)


def _path(scope: Scope) -> str:
    return local_path(scope).rstrip("/")


def _refuse_repeated(scope: Scope) -> None:
    """Refuse repeated headers of the protocol: the SDK would read the first, and this module both.

    Raises:
        MalformedRequest: A header is repeated.
    """
    names = [name for name, _ in scope["headers"] if name.startswith(b"mcp-")]
    if len(names) > len(set(names)):
        raise MalformedRequest("A header of the protocol (Mcp-...) is repeated.")


def _is_sessionless(headers: Mapping[bytes, bytes]) -> bool:
    version = headers.get(b"mcp-protocol-version")
    return version is not None and version not in _HANDSHAKE_VERSIONS


async def _checked_body(
    scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, limit: int
) -> tuple[Scope, Receive] | None:
    """Read a body, check its JSON, and return a scope and ``receive`` for the decompressed body.

    Returns None if the client has disconnected: the SDK would log a traceback.

    Raises:
        NexusError: The body is not strict JSON, or can't be decompressed.
    """
    body = await read_body(receive)
    if body is None:
        return None
    plain = decoded(body, headers, limit)
    jsontext.parse(plain)
    scope[BODY] = plain
    if plain is not body:
        described = (b"content-encoding", b"content-length")
        scope = {**scope, "headers": [each for each in scope["headers"] if each[0] not in described]}
    return scope, _replay({"type": "http.request", "body": plain, "more_body": False}, receive)


def _replay(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def error_body(exc: NexusError) -> bytes:
    """Return an error without a request id as a JSON-RPC message."""
    code = PARSE_ERROR if isinstance(exc, MalformedRequest) else exc.jsonrpc_code
    error = {"code": code, "message": exc.message, "data": exc.problem()}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})


async def _refuse(scope: Scope, send: Send, exc: NexusError) -> None:
    body = error_body(exc)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += error_headers(exc, scope)
    await send({"type": "http.response.start", "status": exc.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
