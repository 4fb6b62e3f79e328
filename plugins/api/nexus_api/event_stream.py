"""Server-sent events (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from nexus_api.translate import encode
from nexus_core import ChannelEvent
from nexus_core.errors import CredentialEnded
from nexus_core.events.event import CREDENTIAL_ENDED, EVENTS_MISSED

if TYPE_CHECKING:
    from nexus_api.translate import CallerLeaves
    from nexus_core.events.log import Follower
    from nexus_core.pipeline.credentials import Lease
    from nexus_core.runs.stored_run import AnyRun
    from nexus_core.server.channel import Send

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


LAST_SECONDS = 1.0
"""Seconds that a client may take to read the end of a stream whose credential has ended."""


async def send_events(
    run: AnyRun, after: int, heartbeat: float, caller: CallerLeaves, lease: Lease, send: Send
) -> None:
    """Send a run's events with a number above ``after``, up to the last one, or until the client disconnects.

    Args:
        run: The run.
        after: The number of the last event that the client has.
        heartbeat: Seconds without an event after which a comment keeps the connection alive.
        caller: Ends the stream when the client disconnects.
        lease: Ends the stream when the caller's credential ends.
        send: The ASGI ``send``.
    """
    try:
        with run.hold(), lease, caller:
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})  # middleware changes
            async with aclosing(run.follow(after, heartbeat=heartbeat)) as events:
                async for event in events:
                    frame = b": still running\n\n" if event is None else _frame(event)
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except CredentialEnded as exc:
        await _send_end(exc, send)


async def send_followed(follower: Follower, heartbeat: float, caller: CallerLeaves, lease: Lease, send: Send) -> None:
    """Send the events of a follower until the client disconnects.

    Args:
        follower: The follower of the event log.
        heartbeat: Seconds without an event after which a comment keeps the connection alive.
        caller: Ends the stream when the client disconnects.
        lease: Ends the stream when the caller's credential ends.
        send: The ASGI ``send``.
    """
    await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
    # From these bytes on the client misses no event; the id is the position that it starts from.
    here = b"id: %b\n: following\n\n" % follower.position.encode()
    await send({"type": "http.response.body", "body": here, "more_body": True})
    try:
        with lease, caller:
            while True:
                event = await follower.next(heartbeat)
                frame = _silence(follower) if event is None else _frame(event, event.id.encode())
                await send({"type": "http.response.body", "body": frame, "more_body": True})
    except CredentialEnded as exc:
        await _send_end(exc, send)


async def _send_end(error: CredentialEnded, send: Send) -> None:
    """Send the reason why a stream ends, and end it."""
    frame = _frame(ChannelEvent(CREDENTIAL_ENDED, error=error))
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_SECONDS):
            await send({"type": "http.response.body", "body": frame, "more_body": False})


def _silence(follower: Follower) -> bytes:
    """Return a heartbeat with the position to resume from, which events of other callers advance as well."""
    place = follower.cursor
    return b": nothing new\n\n" if place is None else b"id: %b\n: nothing new\n\n" % place.encode()


def _frame(event: ChannelEvent, event_id: bytes | None = None) -> bytes:
    if event.type in (EVENTS_MISSED, CREDENTIAL_ENDED):  # they have no number
        return b"event: %b\ndata: %b\n\n" % (event.type.encode(), encode(event.to_dict()))
    number = b"%d" % event.number if event_id is None else event_id
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (number, event.type.encode(), encode(event.to_dict()))
