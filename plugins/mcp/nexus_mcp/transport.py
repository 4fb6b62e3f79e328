"""`HttpTransport`: the SDK's streamable HTTP and its sessions, in a separate task."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from anyio import CancelScope
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings

from nexus_mcp._vendor_internals import open_transports
from nexus_mcp.caller import CALLER

if TYPE_CHECKING:
    from nexus_core.server.channel import Message, Receive, Scope, Send
    from nexus_mcp.open_sessions import OpenSessions
    from nexus_mcp.server import McpServer

STOP_SECONDS = 3.0


class HttpTransport:
    """Serves an `McpServer` over streamable HTTP.

    Args:
        server: The server.
        max_body_bytes: Largest body; the core enforces it before.
        open_sessions: Limits the sessions.
        idle_timeout: Seconds without a request after which a session is closed.
        options: Further arguments of the SDK's session manager.
    """

    def __init__(
        self,
        server: McpServer,
        *,
        max_body_bytes: int,
        open_sessions: OpenSessions,
        idle_timeout: float,
        **options: Any,
    ) -> None:
        self.server = server
        self._open = open_sessions
        if (log := logging.getLogger("mcp")).level == logging.NOTSET:
            log.setLevel(logging.WARNING)
        self._manager = StreamableHTTPSessionManager(
            server,
            # `HttpFront` has checked both headers, with messages that name the option to set.
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            session_idle_timeout=idle_timeout,
            max_request_body_size=max_body_bytes,
            max_sessions=None,
            **options,
        )
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a stateless request."""
        self._identify(scope)
        await self._manager.handle_request(scope, receive, send)

    async def handle_in_session(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of a session, which only the principal that opened it may use."""
        session = self._open.get(session_id)
        if session is None:  # the SDK answers 404
            await self.handle(scope, receive, send)
            return
        with session.serving(is_stream=scope["method"] == "GET"):
            await self.handle(scope, receive, send)

    async def open_session(self, caller: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request that may open a session; if it does not, no session stays.

        Args:
            caller: The key of the caller.
            scope: The scope of the request.
            receive: The ASGI ``receive``.
            send: The ASGI ``send``.

        Raises:
            RateLimited, Overloaded: The caller, or all callers together, have too many sessions.
        """
        session_id: str | None = None

        async def watch(message: Message) -> None:
            nonlocal session_id
            if message["type"] == "http.response.start":
                session_id = dict(message["headers"]).get(b"mcp-session-id", b"").decode()
            await send(message)

        opening = self._open.begin(caller)
        try:
            await self.handle(scope, receive, watch)
        finally:
            # The SDK keeps a session whose `initialize` was answered with an error, under status 200.
            is_initialized = session_id in self.server.initialized
            self.server.initialized.discard(session_id)
            opened = open_transports(self._manager).get(session_id or "")
            if is_initialized and session_id and opened is not None:
                superfluous = self._open.commit(opening, session_id, opened)
            else:
                self._open.abandon(opening)
                superfluous = opened
            if superfluous is not None:
                with CancelScope(shield=True):
                    await superfluous.terminate()

    def _identify(self, scope: Scope) -> None:
        if (principal := scope[CALLER].principal) is not None:
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=principal.identity, scopes=[]))

    @property
    def sessions(self) -> int:
        """Number of open sessions."""
        return len(open_transports(self._manager))

    async def start(self) -> None:
        """Start the session manager."""
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._run(ready), name="nexus-mcp")
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            self._task.result()

    async def _run(self, ready: asyncio.Event) -> None:
        # The manager's task group must be left by the task that entered it.
        async with self._manager.run():
            ready.set()
            await self._stopping.wait()

    async def drain(self) -> None:
        """End open streams and sessions; active requests get a response."""
        self.server.end_listening()
        for session in list(open_transports(self._manager).values()):
            await session.terminate()

    async def stop(self) -> None:
        """Drain, and end the sessions' tasks."""
        await self.drain()
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            self._task.cancel()
        await self.server.close()
