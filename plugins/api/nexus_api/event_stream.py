"""Server-sent events (HTML standard, section 9.2) of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_api.translate import encode

if TYPE_CHECKING:
    from nexus_api.translate import CallerLeaves
    from nexus_core import ChannelEvent, Run
    from nexus_core.channel import Send

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


async def send_events(run: Run, after: int, heartbeat: float, caller: CallerLeaves, send: Send) -> None:
    """Send a run's events with a number above ``after``, up to its last, or until the caller leaves.

    Args:
        run: The run.
        after: The number of the last event that the caller has.
        heartbeat: Seconds of silence after which a comment keeps the connection alive.
        caller: Tells when the caller leaves.
        send: Where the events go.
    """
    await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})  # middleware changes it
    run.followers += 1  # `Run.follow` knows no heartbeat
    try:
        with caller:
            while (fresh := run.events_after(after)) or not run.done:
                for event in fresh:
                    after = event.number
                    await send({"type": "http.response.body", "body": _frame(event), "more_body": True})
                if not fresh and not await run.changed(heartbeat):
                    await send({"type": "http.response.body", "body": b": still running\n\n", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        run.followers -= 1


def _frame(event: ChannelEvent) -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.number, event.type.encode(), encode(event.to_dict()))
