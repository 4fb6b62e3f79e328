"""Streams of events, as lines: of a run, of a session, of all that is a caller's.

Each begins with an event of type `FOLLOWING`, so that whoever follows knows that it misses nothing from there on, and
says in silence that it goes on.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core.errors import SessionNotFound
from nexus_core.events.event import EVENTS_MISSED, SESSION_EXPIRED, SESSION_REMOVED, SESSION_UPDATED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from nexus_core.app.view import CallerView
    from nexus_core.events.event import ChannelEvent
    from nexus_core.runs.run import Run
    from nexus_core.state.sessions import Session

FOLLOWING = "events.following"
"""The type of the first line of a stream. Its ``id``, of a stream that has ids, is what to go on from."""

HEARTBEAT_SECONDS = 15.0
"""Silence after which a line without an event says that the stream goes on."""

LOOK_SECONDS = 0.25
"""The shortest time between two looks at a session whose time has come."""

PAST_SECONDS = 0.5
"""How long it may take until events that have been come to who has come back too late for the session itself."""

_SILENCE = b"{}"
_encode = msgspec.json.Encoder().encode


def event_line(event: dict[str, Any]) -> bytes:
    """Return the line that tells an event."""
    return b'{"event":%b}' % _encode(event)


def reply_line(text: bytes) -> bytes:
    """Return the line that ends an answer."""
    return b'{"reply":%b}' % text


async def of_run(run: Run, after: int = 0) -> AsyncGenerator[bytes]:
    """Yield a run's events above a number, but the last, which says what the reply says again."""
    with run.hold():  # `Run.follow` knows no silence
        while (fresh := run.events_after(after)) or not run.done:
            for event in fresh:
                after = event.number
                if not event.is_terminal:
                    yield event_line(event.to_dict())
            if not fresh and not await run.changed(HEARTBEAT_SECONDS):
                yield _SILENCE


async def of_caller(view: CallerView, after: str | None) -> AsyncGenerator[bytes]:
    """Yield what happens to a caller's runs and sessions, after the event of an id or from now on, without an end.

    Raises:
        NexusError: See `CallerView.events`.
    """
    follower = await view.events(after)
    try:
        place = follower.position
        yield event_line({"type": FOLLOWING, "id": place})
        while True:
            event = await follower.next(HEARTBEAT_SECONDS)
            if event is None:
                yield _SILENCE
                continue
            place = event.id or place
            yield _told(event, place)
    finally:
        follower.close()


async def of_session(view: CallerView, session_id: str, after: str | None) -> AsyncGenerator[bytes]:
    """Yield what happens to a session, with the state that it has after each change, until it ends; then how it did.

    Raises:
        SessionNotFound: There is none, or it is another's, and nothing after the event ``after`` tells its end.
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
        watch = _Watch(view, await view.session(session_id))
        place = follower.position
        yield event_line({"type": FOLLOWING, "id": place})
        while True:
            event = await follower.next(watch.patience())
            if event is not None:
                place = event.id or place
                yield _told(event, place, await watch.state_after(event))
                end = _end_told(event)
            else:
                end = await watch.end()
                if end is None:
                    yield _SILENCE
            if end is not None:
                yield _ended(session_id, end)
                return
    finally:
        follower.close()


async def _end_of_session(view: CallerView, session_id: str, after: str) -> AsyncGenerator[bytes]:
    """Yield what was left to tell of a session that has ended while its follower was away."""
    begin = time.time()
    follower = await view.events(after)
    try:
        place = follower.position
        while (event := await follower.next(PAST_SECONDS)) is not None:
            place = event.id or place
            if event.session_id == session_id or event.type == EVENTS_MISSED:
                yield _told(event, place)
            elif event.time > begin:
                break
            if event.session_id == session_id and (end := _end_told(event)) is not None:
                yield _ended(session_id, end)
                return
    finally:
        follower.close()
    raise SessionNotFound("There is no session of that id.")


class _Watch:
    """Looks at a session whose end no event may tell: one that nobody uses ends without anybody noticing."""

    def __init__(self, view: CallerView, session: Session) -> None:
        self._view = view
        self._session = session

    def patience(self) -> float:
        """Return for how many seconds nobody needs to look."""
        expires_at = self._session.expires_at
        left = HEARTBEAT_SECONDS if expires_at is None else max(expires_at - time.time(), LOOK_SECONDS)
        return min(left, HEARTBEAT_SECONDS)

    async def state_after(self, event: ChannelEvent) -> dict[str, Any] | None:
        """Return the session's state, if the event tells that it is another one."""
        if event.type != SESSION_UPDATED:
            return None
        try:
            self._session = await self._view.session(self._session.id)
        except SessionNotFound:
            return None  # its end comes next
        return self._session.state

    async def end(self) -> str | None:
        """Return how the session has ended, if it has."""
        try:
            self._session = await self._view.session(self._session.id)
        except SessionNotFound:
            expires_at = self._session.expires_at
            return "removed" if expires_at is None or time.time() < expires_at else "expired"
        return None


def _told(event: ChannelEvent, place: str, state: dict[str, Any] | None = None) -> bytes:
    """Return an event's line, with the id to go on from; events that were missed have none of their own."""
    return event_line(event.to_dict() | {"id": place} | ({} if state is None else {"state": state}))


def _end_told(event: ChannelEvent) -> str | None:
    """Return how an event says that its session has ended, if it does."""
    if event.type == SESSION_EXPIRED:
        return "expired"
    return str((event.data or {}).get("reason", "removed")) if event.type == SESSION_REMOVED else None


def _ended(session_id: str, how: str) -> bytes:
    return reply_line(_encode({"session_id": session_id, "ended": how}))
