"""Streams of events, as lines: of a run, of a session, of a caller's runs and sessions.

Each begins with an event of type `FOLLOWING`: the client misses nothing from there on. Heartbeats fill silence.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core.errors import SessionNotFound
from nexus_core.events.event import EVENTS_MISSED, SESSION_EXPIRED, SESSION_REMOVED, SESSION_UPDATED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection

    from nexus_core.app.view import CallerView
    from nexus_core.events.event import ChannelEvent
    from nexus_core.runs.stored_run import AnyRun
    from nexus_core.state.sessions import Session

FOLLOWING = "events.following"
"""The type of the first line of a stream. Its ``id``, if the stream has ids, is the cursor to resume from."""

HEARTBEAT_SECONDS = 15.0
"""Seconds of silence before a heartbeat, a line without an event."""

CHECK_SECONDS = 0.25
"""Shortest time between checks of a session that is due to expire."""

PAST_SECONDS = 0.5
"""Time limit for past events of a session that has ended while its client was disconnected."""

_HEARTBEAT = b"{}"
_encode = msgspec.json.Encoder().encode


def event_line(event: dict[str, Any]) -> bytes:
    """Return the line of an event."""
    return b'{"event":%b}' % _encode(event)


def reply_line(text: bytes) -> bytes:
    """Return the line that ends an answer."""
    return b'{"reply":%b}' % text


async def of_run(run: AnyRun, after: int = 0, only: Collection[str] = ()) -> AsyncGenerator[bytes]:
    """Yield a run's events above a number, without the final one, whose content is the reply.

    Args:
        run: The run.
        after: The number.
        only: The types of events to yield; none for all.
    """
    async with aclosing(run.follow(after, heartbeat=HEARTBEAT_SECONDS)) as events:
        async for event in events:
            if event is None:
                yield _HEARTBEAT
            elif not event.is_terminal and (not only or event.type in only):
                yield event_line(event.to_dict())


async def of_caller(view: CallerView, after: str | None) -> AsyncGenerator[bytes]:
    """Yield the events of a caller's runs and sessions, after an event's id or from now on, without an end.

    Raises:
        NexusError: See `CallerView.events`.
    """
    follower = await view.events(after)
    try:
        cursor = follower.position
        yield event_line({"type": FOLLOWING, "id": cursor})
        while True:
            event = await follower.next(HEARTBEAT_SECONDS)
            if event is None:
                yield _HEARTBEAT
                continue
            cursor = event.id or cursor
            yield _line_with_id(event, cursor)
    finally:
        follower.close()


async def of_session(view: CallerView, session_id: str, after: str | None) -> AsyncGenerator[bytes]:
    """Yield the events of a session, with its state after each change, until it ends; then a reply with the reason.

    Raises:
        SessionNotFound: It does not exist for the caller, and no event after ``after`` reports its end.
        NexusError: See `CallerView.events`.
    """
    try:
        follower = await view.events(after, session_id=session_id)
    except SessionNotFound:
        if after is None:
            raise
        async with aclosing(_end_of_session(view, session_id, after)) as lines:
            async for line in lines:
                yield line
        return
    try:
        check = _SessionCheck(view, await view.session(session_id))
        cursor = follower.position
        yield event_line({"type": FOLLOWING, "id": cursor})
        while True:
            event = await follower.next(check.next_seconds())
            if event is not None:
                cursor = event.id or cursor
                yield _line_with_id(event, cursor, await check.state_after(event))
                end = _end_reason(event)
            else:
                end = await check.end()
                if end is None:
                    yield _HEARTBEAT
            if end is not None:
                yield _end_line(session_id, end)
                return
    finally:
        follower.close()


async def _end_of_session(view: CallerView, session_id: str, after: str) -> AsyncGenerator[bytes]:
    """Yield the remaining events of a session that has ended while its client was disconnected."""
    begin = time.time()
    follower = await view.events(after)
    try:
        cursor = follower.position
        while (event := await follower.next(PAST_SECONDS)) is not None:
            cursor = event.id or cursor
            if event.session_id == session_id or event.type == EVENTS_MISSED:
                yield _line_with_id(event, cursor)
            elif event.time > begin:
                break
            if event.session_id == session_id and (end := _end_reason(event)) is not None:
                yield _end_line(session_id, end)
                return
    finally:
        follower.close()
    raise SessionNotFound("There is no session with this id.")


class _SessionCheck:
    """Checks a session whose end may have no event: an unused session expires silently."""

    def __init__(self, view: CallerView, session: Session) -> None:
        self._view = view
        self._session = session

    def next_seconds(self) -> float:
        """Return the seconds until the next check."""
        expires_at = self._session.expires_at
        left = HEARTBEAT_SECONDS if expires_at is None else max(expires_at - time.time(), CHECK_SECONDS)
        return min(left, HEARTBEAT_SECONDS)

    async def state_after(self, event: ChannelEvent) -> dict[str, Any] | None:
        """Return the session's state, if the event reports a change."""
        if event.type != SESSION_UPDATED:
            return None
        try:
            self._session = await self._view.session(self._session.id)
        except SessionNotFound:
            return None  # its end comes next
        return self._session.state

    async def end(self) -> str | None:
        """Return the reason of the session's end; None while it exists."""
        try:
            self._session = await self._view.session(self._session.id)
        except SessionNotFound:
            expires_at = self._session.expires_at
            return "removed" if expires_at is None or time.time() < expires_at else "expired"
        return None


def _line_with_id(event: ChannelEvent, cursor: str, state: dict[str, Any] | None = None) -> bytes:
    """Return an event's line, with the cursor as its id: ``events.missed`` has none."""
    return event_line(event.to_dict() | {"id": cursor} | ({} if state is None else {"state": state}))


def _end_reason(event: ChannelEvent) -> str | None:
    """Return the reason if an event reports the end of its session."""
    if event.type == SESSION_EXPIRED:
        return "expired"
    return str((event.data or {}).get("reason", "removed")) if event.type == SESSION_REMOVED else None


def _end_line(session_id: str, how: str) -> bytes:
    return reply_line(_encode({"session_id": session_id, "ended": how}))
