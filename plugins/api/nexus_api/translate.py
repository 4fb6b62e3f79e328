"""Translation between HTTP and the core: headers to an `Invocation`, values to responses."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from nexus_toolkit.bodies import read_parsed

from nexus_core import Caller, Invocation, MalformedRequest
from nexus_core.jsontext import parse_object
from nexus_core.server.caller import caller_of, headers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core import Platform
    from nexus_core.app.view import CallerView
    from nexus_core.concurrency.timers import Timers
    from nexus_core.server.channel import Receive, Scope, Send

_JSON = (b"content-type", b"application/json")
_SECONDS = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?")
"""A JSON number, as the OpenAPI document defines `wait`."""
_LONGEST_WAIT = 3600

encode = msgspec.json.Encoder().encode


def caller_of_request(scope: Scope, headers: dict[bytes, bytes]) -> Caller:
    """Return the caller of a request.

    Raises:
        MalformedRequest: A header has an invalid value.
    """
    return Caller("api", **caller_of(scope, headers))


def invocation_of(scope: Scope, headers: dict[bytes, bytes], name: str, params: Any, key: str | None) -> Invocation:
    """Return the call of a request, with an idempotency key.

    Raises:
        MalformedRequest: A header has an invalid value.
    """
    return Invocation(name, params, "api", idempotency_key=key, **caller_of(scope, headers))


async def view_of(platform: Platform, scope: Scope) -> CallerView:
    """Return the view of the caller of a request.

    Raises:
        NexusError: A header is invalid, or the caller is refused.
    """
    return await platform.view(caller_of_request(scope, headers_of(scope)))


def seconds_to_wait(scope: Scope, headers: dict[bytes, bytes]) -> float | None:
    """Return the seconds to wait for the result (``Prefer: wait=N``, RFC 7240, or ``?wait=N``), or None.

    Raises:
        MalformedRequest: The value is not a number of seconds.
    """
    preferences, query = headers.get(b"prefer"), scope["query_string"]
    if preferences is None and not query:
        return None
    text = None
    for part in preferences.split(b",") if preferences else ():
        name, _, value = part.partition(b";")[0].partition(b"=")
        if name.strip().lower() == b"wait":
            text = value.strip().strip(b'"').decode("latin-1")
    for part in query.split(b"&"):
        if part.startswith(b"wait="):
            text = unquote(part[5:].decode("latin-1"))
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or not 0 <= (seconds := float(text)) <= _LONGEST_WAIT:
        raise MalformedRequest(f"wait must be a number of seconds from 0 to {_LONGEST_WAIT}.")
    return seconds


async def read_object(platform: Platform, caller: Caller, receive: Receive) -> tuple[bytes, dict[str, Any]] | None:
    """Return the JSON object in the body of a request as text and decoded; None if the client has disconnected.

    Raises:
        MalformedRequest: The body is not a JSON object, or has another Content-Type.
        NexusError: See `read_parsed`.
    """

    def parse(body: bytes) -> tuple[bytes, dict[str, Any]]:
        kind = (caller.headers or {}).get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json" and not kind.endswith(b"+json") and (body or kind):
            raise MalformedRequest("The body must be JSON, with Content-Type: application/json.")
        return body, parse_object(body)

    return await read_parsed(platform, caller, receive, parse)


async def send_json(send: Send, body: bytes, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Send a response with JSON text."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})


class CallerLeaves:
    """Cancels the current task when the client disconnects. Fast responses do not pay for the check.

    Used as a context manager around the work.

    Args:
        timers: The timers of the platform.
        receive: The ASGI ``receive``.

    Attributes:
        left: Whether the task was cancelled because the client disconnected.
    """

    WATCH_AFTER = 0.02
    """Seconds after which the check for a disconnect starts."""

    def __init__(self, timers: Timers, receive: Receive) -> None:
        self._timers = timers
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self.left = False

    def __enter__(self) -> CallerLeaves:
        """Start the timer."""
        self._task = asyncio.current_task()
        self._timer = self._timers.schedule(self.WATCH_AFTER, self._begin)
        return self

    def _begin(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        """Stop the check; suppress the cancellation by a disconnect."""
        self._timers.cancel(self._timer)
        if self._watch is not None:
            self._watch.cancel()
        if self.left and self._task is not None and kind is asyncio.CancelledError:
            self._task.uncancel()
            return True
        return False
