"""`Guard`: what every listening channel needs before it reads a request, whatever server is in front.

Servers leave large, slow and ambiguous bodies to the application (hypercorn documents it so). A request with both
Content-Length and Transfer-Encoding is refused: two parsers that disagree about it are request smuggling, and
RFC 9112, section 6.3, has a server close the connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nexus_core.asgi import send_error
from nexus_core.errors import MalformedRequest, NexusError, RequestTimeout, RequestTooLarge

if TYPE_CHECKING:
    from nexus_core.alarms import Alarms
    from nexus_core.channel import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_DISCONNECT: Message = {"type": "http.disconnect"}


class Guard:
    """Bounds each request's body in size and time, and turns an application's crash into an answer.

    Args:
        app: The application behind.
        alarms: Where time limits are kept.
        max_body_bytes: The largest body.
        body_timeout: Seconds in which it must have arrived.
    """

    def __init__(self, app: ASGIApp, alarms: Alarms, max_body_bytes: int, body_timeout: float) -> None:
        self._app = app
        self._alarms = alarms
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = 0
        chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value) if value.isdigit() else -1
            elif name == b"transfer-encoding":
                chunked = True
        if chunked and length:
            await send_error(scope, send, _ambiguous(), close=True)
        elif length < 0:
            await send_error(scope, send, MalformedRequest("Content-Length is not a number."), close=True)
        elif length > self._max_body_bytes:
            await send_error(scope, send, _too_large(self._max_body_bytes), close=True)
        else:
            exchange = _Exchange(scope, receive, send, self._max_body_bytes)
            alarm = self._alarms.set(self._body_timeout, exchange.expire)
            try:
                await exchange.run(self._app)
            finally:
                self._alarms.clear(alarm)


def _ambiguous() -> MalformedRequest:
    return MalformedRequest("A request has either Content-Length or Transfer-Encoding, not both.")


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body is larger than max_body_bytes ({limit}).")


class _Exchange:
    """One request and its answer. Once refused, the application sees a disconnect and what it sends goes nowhere."""

    __slots__ = (
        "_complete",
        "_expired",
        "_left",
        "_limit",
        "_receive",
        "_refused",
        "_scope",
        "_send",
        "_started",
        "_waiting",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = self._left = limit
        self._complete = self._expired = self._refused = self._started = False
        self._waiting: asyncio.Task[object] | None = None

    def expire(self) -> None:
        """Stop waiting for the body: its time is up."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._expired = True

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:
            if self._refused:
                return
            log.exception("A channel's application raised on %s", self._scope["path"])
            if self._started:
                raise
            await self._refuse(NexusError("Something went wrong inside the server; its log has the reason."))

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        if self._refused:
            return _DISCONNECT
        self._waiting = waiting = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if waiting is None or not self._expired:
                raise
            waiting.uncancel()
            return await self._refuse(RequestTimeout("The body did not arrive in time (body_timeout)."))
        finally:
            self._waiting = None
        if message["type"] != "http.request":
            self._complete = True
            return message
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return await self._refuse(_too_large(self._limit))
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self._refused:
            return
        self._started = True
        await self._send(message)

    async def _refuse(self, error: NexusError) -> Message:
        if not self._started:
            await send_error(self._scope, self._send, error, close=True)
        self._refused = True
        return _DISCONNECT
