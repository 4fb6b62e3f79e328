"""Server-sent events (HTML standard, section 9.2) of one run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_api.translate import encode
from nexus_core import ChannelEvent
from nexus_core.errors import CredentialEnded
from nexus_core.events.event import CREDENTIAL_ENDED, EVENTS_MISSED

if TYPE_CHECKING:
    from nexus_api.translate import CallerLeaves
    from nexus_core import Run
    from nexus_core.events.log import Follower
    from nexus_core.pipeline.credentials import Lease
    from nexus_core.server.channel import Send

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


LAST_SECONDS = 1.0
"""How long a caller who does not read may keep a stream whose credential has ended."""


async def send_events(run: Run, after: int, heartbeat: float, caller: CallerLeaves, lease: Lease, send: Send) -> None:
    """Send a run's events with a number above ``after``, up to its last, or until the caller leaves.

    Args:
        run: The run.
        after: The number of the last event that the caller has.
        heartbeat: Seconds of silence after which a comment keeps the connection alive.
        caller: Tells when the caller leaves.
        lease: Ends it when the caller's credential ends.
        send: Where the events go.
    """
    try:
        with run.hold(), lease, caller:  # `Run.follow` knows no heartbeat
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})  # middleware changes
            while (fresh := run.events_after(after)) or not run.done:
                for event in fresh:
                    after = event.number
                    await send({"type": "http.response.body", "body": _frame(event), "more_body": True})
                if not fresh and not await run.changed(heartbeat):
                    await send({"type": "http.response.body", "body": b": still running\n\n", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except CredentialEnded as exc:
        await _send_end(exc, send)


async def send_followed(follower: Follower, heartbeat: float, caller: CallerLeaves, lease: Lease, send: Send) -> None:
    """Send what a follower gets until the caller leaves.

    Args:
        follower: Who follows.
        heartbeat: Seconds of silence after which a comment keeps the connection alive.
        caller: Tells when the caller leaves.
        lease: Ends it when the caller's credential ends.
        send: Where the events go.
    """
    await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
    # The first bytes tell the caller that it has not to fear to miss anything from here on, and where here is.
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
    """Say why a stream ends, and end it."""
    frame = _frame(ChannelEvent(CREDENTIAL_ENDED, error=error))
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_SECONDS):
            await send({"type": "http.response.body", "body": frame, "more_body": False})


def _silence(follower: Follower) -> bytes:
    """Return what says that nothing is new, and from where to go on: what others do moves that along too."""
    place = follower.place
    return b": nothing new\n\n" if place is None else b"id: %b\n: nothing new\n\n" % place.encode()


def _frame(event: ChannelEvent, event_id: bytes | None = None) -> bytes:
    if event.type in (EVENTS_MISSED, CREDENTIAL_ENDED):  # they have no place among the others
        return b"event: %b\ndata: %b\n\n" % (event.type.encode(), encode(event.to_dict()))
    number = b"%d" % event.number if event_id is None else event_id
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (number, event.type.encode(), encode(event.to_dict()))
