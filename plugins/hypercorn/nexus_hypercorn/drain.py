"""`Drain`: ends open exchanges when the server stops.

On Python 3.12 and later hypercorn waits for ever for a WebSocket or an event stream that nobody closes
(https://github.com/pgjones/hypercorn/issues/308). This wrapper closes each of them in the way its protocol has for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexus_core.asgi import send_error
from nexus_core.errors import Overloaded

if TYPE_CHECKING:
    from nexus_core.channel import ASGIApp, Message, Receive, Scope, Send

SERVICE_RESTART = 1012
"""The WebSocket close code that tells a client to connect again (IANA registry)."""


class Drain:
    """Wraps an application and knows what it is still answering."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[asyncio.Task[object]] = set()
        self._closed = self._ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an exchange on, and end it politely when it is interrupted."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        sender = _Sender(send)
        if self._closed:
            await sender.end(scope)
            return
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._app(scope, receive, sender)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            await sender.end(scope)
        finally:
            self._open.discard(task)

    async def drain(self, seconds: float) -> None:
        """Take nothing new, give open exchanges some seconds, then interrupt them and wait until they have ended."""
        self._closed = True
        if self._open:
            await asyncio.wait(self._open, timeout=seconds)
        self._ending = True
        left = set(self._open)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=seconds + 1)


class _Sender:
    """Remembers how far an answer has come."""

    __slots__ = ("_send", "complete", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = self.complete = False

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.accept"):
            self.started = True
        elif kind == "websocket.close" or (kind == "http.response.body" and not message.get("more_body")):
            self.complete = True
        await self._send(message)

    async def end(self, scope: Scope) -> None:
        if self.complete:
            return
        if scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": "The server stops."})
        elif self.started:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await send_error(scope, self._send, Overloaded("The server is shutting down.", retry_after=1), close=True)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's lifespan events: the platform has its own start and stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
