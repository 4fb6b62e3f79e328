"""`Guard`: what every listening channel needs before it reads a request, whatever server is in front.

Servers leave large, slow and ambiguous bodies to the application (hypercorn documents it so). A request with both
Content-Length and Transfer-Encoding is refused: two parsers that disagree about it are request smuggling, and
RFC 9112, section 6.3, has a server close the connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.concurrency.threads import ENDS_PROCESS
from nexus_core.errors import MalformedRequest, NexusError, RequestTimeout, RequestTooLarge
from nexus_core.server.asgi import send_error
from nexus_core.text import printable, shown_path

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.concurrency.timers import Timers
    from nexus_core.server.channel import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

LINGER_SECONDS = 5.0
"""How long the rest of an unread body is taken and thrown away after the answer. A connection that is closed
while data comes in is reset, and the reset may overtake the answer (RFC 9112, section 9.6)."""

_DIGITS = 19
"""Characters of a Content-Length that is not read: no valid length is longer."""

_DISCONNECT: Message = {"type": "http.disconnect"}


class Guard:
    """Bounds each request's body in size and time, and turns an application's crash into an answer.

    Args:
        app: The application behind.
        timers: Where time limits are kept.
        max_body_bytes: The largest body.
        body_timeout: Seconds in which it must have arrived.
    """

    def __init__(self, app: ASGIApp, timers: Timers, max_body_bytes: int, body_timeout: float) -> None:
        self._app = app
        self._timers = timers
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout
        self._reports = RateLimitedLog(log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await _unharmed(self._app(scope, receive, send))
            return
        length: int | None = None
        chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                found = int(value) if value.isdigit() and len(value) < _DIGITS else -1
                length = found if length in (None, found) else -1
            elif name == b"transfer-encoding":
                chunked = True
        # HTTP/2 and later need neither header for a body.
        has_body = bool(length) or chunked or scope["http_version"] in ("2", "3")
        exchange = _Exchange(scope, receive, send, self._max_body_bytes, has_body)
        if chunked and length is not None:
            await exchange.refuse(_ambiguous())
        elif length is not None and length < 0:
            await exchange.refuse(MalformedRequest("Content-Length is not a number."))
        elif length is not None and length > self._max_body_bytes:
            await exchange.refuse(_too_large(self._max_body_bytes))
        elif has_body:
            timer = self._timers.schedule(self._body_timeout, exchange.expire)
            try:
                await exchange.run(self._app, self._reports)
            finally:
                self._timers.cancel(timer)
        else:
            await exchange.run(self._app, self._reports)


async def _unharmed(work: Awaitable[None]) -> None:
    """Await an application that must not end the server with what it raises."""
    try:
        await work
    except ENDS_PROCESS as exc:
        raise RuntimeError(f"the application raised {exc!r}") from exc


async def _nothing() -> None:
    pass


def _ambiguous() -> MalformedRequest:
    return MalformedRequest("A request has either Content-Length or Transfer-Encoding, not both.")


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body is larger than max_body_bytes ({limit}).")


class _Exchange:
    """One request and its answer. Once refused, the application sees a disconnect and what it sends goes nowhere.

    Attributes:
        complete: Whether the whole body has been received, or there is none.
    """

    __slots__ = ("_expired", "_left", "_limit", "_receive", "_refused", "_scope", "_send", "_started", "_waiting",
                 "complete")  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int, has_body: bool) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = self._left = limit
        self.complete = not has_body
        self._expired = self._refused = self._started = False
        self._waiting: asyncio.Task[object] | None = None

    def expire(self) -> None:
        """Wait no longer for the body: its time is up."""
        self._expired = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _is_late(self) -> bool:
        return self._expired

    async def run(self, app: ASGIApp, reports: RateLimitedLog) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        except (Exception, *ENDS_PROCESS) as exc:
            if self._refused:
                return
            if self._started and isinstance(exc, Exception):
                raise  # the server breaks the answer off, and says so in its log
            if self._started:
                raise RuntimeError(f"the application raised {exc!r}") from exc
            path = printable(shown_path(self._scope["path"]), 200)
            reports.failure("application", exc, "A channel's application raised on %s", path)
            await self.refuse(NexusError("Internal error; the server's log has the reason."))

    def receive(self) -> Awaitable[Message]:
        # Plain functions that hand on the server's own awaitables: a coroutine around each would cost every request.
        return self._receive() if self.complete and not self._refused else self._receive_body()

    async def _receive_body(self) -> Message:
        if self._refused:
            return _DISCONNECT
        if self._is_late():
            return await self._refuse_late()
        self._waiting = waiting = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if waiting is None or not self._is_late() or waiting.uncancel():
                raise
            return await self._refuse_late()
        finally:
            self._waiting = None
        if message["type"] != "http.request":
            self.complete = True
            return message
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return await self.refuse(_too_large(self._limit))
        self.complete = not message.get("more_body", False)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if self._refused:
            return _nothing()
        self._started = True
        if self.complete or message["type"] != "http.response.body" or message.get("more_body"):
            return self._send(message)
        return self._send_last(message)

    async def _send_last(self, message: Message) -> None:
        """Send the end of the answer to a request whose body nobody has read; see `LINGER_SECONDS`."""
        await self._send({**message, "more_body": True})
        rest = asyncio.create_task(self._take_rest())
        try:
            await asyncio.wait({rest}, timeout=0 if self._expired else LINGER_SECONDS)
            # The rest is taken still: a server whose queue of messages is full could not even note the end.
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            rest.cancel()

    async def _take_rest(self) -> None:
        while not self.complete:
            message = await self._receive()
            self.complete = message["type"] != "http.request" or not message.get("more_body", False)

    async def refuse(self, error: NexusError) -> Message:
        """Answer with an error, if nothing has been answered yet, and let the application believe the caller left."""
        if not self._started:
            await send_error(self._scope, self.send, error, close=True)
        self._refused = True
        return _DISCONNECT

    async def _refuse_late(self) -> Message:
        return await self.refuse(RequestTimeout("The body did not arrive in time (body_timeout)."))
