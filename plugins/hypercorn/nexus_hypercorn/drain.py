"""`Drain`: ends open requests and WebSockets when the server stops.

On Python 3.12 and later hypercorn waits forever for a WebSocket or an event stream that is not closed
(https://github.com/pgjones/hypercorn/issues/308). This wrapper closes each as its protocol defines.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexus_core.errors import Overloaded
from nexus_core.server.asgi import send_error

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.server.channel import ASGIApp, Message, Receive, Scope, Send

SERVICE_RESTART = 1012
"""WebSocket close code that tells a client to reconnect (IANA registry)."""


class Drain:
    """Wraps an application and tracks its open requests and WebSockets.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[asyncio.Task[object]] = set()
        self._leftovers: set[asyncio.Task[None]] = set()
        self._closed = self._ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or a WebSocket on, and end it as its protocol defines when it is interrupted."""
        kind = scope["type"]
        sender = _Sender(send)
        if self._closed:
            self._discard_rest(receive)
            await sender.end(scope)
            return
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if kind == "websocket":
                await self._websocket(scope, receive, sender)
            else:
                await self._app(scope, receive, sender)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            await sender.end(scope)
        finally:
            self._open.discard(task)

    async def _websocket(self, scope: Scope, receive: Receive, sender: _Sender) -> None:
        left = False

        async def receive_noting() -> Message:
            nonlocal left
            message = await receive()
            left = message["type"] == "websocket.disconnect"
            return message

        try:
            await self._app(scope, receive_noting, sender)
        finally:
            if not left:
                self._discard_rest(receive)

    def _discard_rest(self, receive: Receive) -> None:
        """Discard further messages: hypercorn's queue is bounded (0.18), and must have room for the disconnect."""
        task = asyncio.get_running_loop().create_task(_discard(receive))
        self._leftovers.add(task)
        task.add_done_callback(self._leftovers.discard)

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, give open ones some seconds, then interrupt them and wait for their end."""
        self._closed = True
        if self._open:
            await asyncio.wait(self._open, timeout=seconds)
        self._ending = True
        left = set(self._open)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=seconds + 1)


async def _discard(receive: Receive) -> None:
    while not (await receive())["type"].endswith(".disconnect"):
        pass


class _Sender:
    """Tracks how far a response has come."""

    __slots__ = ("complete", "send", "started")

    def __init__(self, send: Send) -> None:
        self.send = send
        self.started = self.complete = False

    def __call__(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.accept"):
            self.started = True
        elif kind == "websocket.close" or (kind.endswith("http.response.body") and not message.get("more_body")):
            self.complete = True
        return self.send(message)

    async def end(self, scope: Scope) -> None:
        if self.complete:
            return
        if scope["type"] == "websocket" and self.started:
            await self.send(
                {"type": "websocket.close", "code": SERVICE_RESTART, "reason": "The server is shutting down."}
            )
        elif self.started:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await send_error(scope, self.send, Overloaded("The server is shutting down.", retry_after=1), close=True)
