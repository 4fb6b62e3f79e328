"""`OpenSessions`: the open protocol sessions of each caller, and which one is closed for a new one."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from nexus_core import Overloaded
from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

RETRY_AFTER = 1.0


class Transport(Protocol):
    """The SDK's part of a session."""

    @property
    def is_terminated(self) -> bool:
        """Whether the session has ended."""

    async def terminate(self) -> None:
        """End the session: requests with its id get 404."""


class OpenSession:
    """One session, or one that is being opened.

    Args:
        caller: The key of its caller.
        makes_room: The session that ends when this one is open.

    Attributes:
        transport: The SDK's part; None while the session is being opened.
    """

    __slots__ = ("caller", "leaves", "makes_room", "requests", "streams", "transport", "used_at")

    def __init__(self, caller: str, makes_room: OpenSession | None) -> None:
        self.caller = caller
        self.makes_room = makes_room
        self.transport: Transport | None = None
        self.requests = 0
        self.streams = 0
        self.used_at = time.monotonic()
        self.leaves = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended, by its client or because it was idle."""
        return self.transport is not None and self.transport.is_terminated

    @property
    def is_idle(self) -> bool:
        """Whether it may be closed for a new one: it is open and has no active request. A stream is not a request."""
        return self.transport is not None and self.requests == 0 and not self.leaves

    @contextmanager
    def serving(self, *, is_stream: bool) -> Iterator[None]:
        """Count an active request or stream."""
        counted = "streams" if is_stream else "requests"
        setattr(self, counted, getattr(self, counted) + 1)
        try:
            yield
        finally:
            setattr(self, counted, getattr(self, counted) - 1)
            self.used_at = time.monotonic()


class OpenSessions:
    """Limits the sessions of a channel, in total and for each caller.

    At a limit, the session that has been idle for longest is closed: one of the caller at the limit per caller, else
    one of the caller with most sessions. If each has an active request, the new session is refused.

    Args:
        limit: Most sessions.
        per_caller: Most sessions of one caller.
    """

    def __init__(self, limit: int, per_caller: int) -> None:
        self.limit = limit
        self.per_caller = per_caller
        self._reports = RateLimitedLog(log)
        self._by_id: dict[str, OpenSession] = {}
        self._opening: set[OpenSession] = set()

    def get(self, session_id: str) -> OpenSession | None:
        """Return an open session."""
        return self._by_id.get(session_id)

    def begin(self, caller: str) -> OpenSession:
        """Reserve a place for a session; `commit` or `abandon` it.

        Raises:
            RateLimited: The caller is at its limit, and each session has an active request.
            Overloaded: The limit of all callers is reached, and each session has an active request.
        """
        sessions = self._present()
        own = [each for each in sessions if each.caller == caller]
        leaver = None
        if len(own) >= self.per_caller:
            leaver = _longest_idle(own, Counter())
            if leaver is None:
                raise RateLimited(
                    f"Each of your {self.per_caller} sessions has an active request "
                    "(mcp_max_sessions_per_caller); close a session, or retry later.",
                    retry_after=RETRY_AFTER,
                )
        elif len(sessions) >= self.limit:
            leaver = _longest_idle(sessions, Counter([caller, *(each.caller for each in sessions)]))
            if leaver is None:
                self._reports.log(logging.WARNING, "full", "A new session is refused: %s", self.shortage)
                raise Overloaded(self.shortage, retry_after=RETRY_AFTER)
            self._reports.log(
                logging.WARNING,
                "room",
                "All %d sessions are open (max_concurrent_sessions): the longest idle one is closed for a new one",
                self.limit,
            )
        if leaver is not None:
            leaver.leaves = True
        opening = OpenSession(caller, leaver)
        self._opening.add(opening)
        return opening

    def commit(self, opening: OpenSession, session_id: str, transport: Transport) -> Transport | None:
        """Count a session as open. Returns the transport of the session to close for it, if any."""
        self._opening.discard(opening)
        opening.transport = transport
        opening.used_at = time.monotonic()
        self._by_id[session_id] = opening
        leaver, opening.makes_room = opening.makes_room, None
        return None if leaver is None else leaver.transport

    def abandon(self, opening: OpenSession) -> None:
        """Release a place, if no session was opened."""
        self._opening.discard(opening)
        if opening.makes_room is not None:
            opening.makes_room.leaves = False

    def _present(self) -> list[OpenSession]:
        """Return the sessions that count: sessions being closed for a new one do not."""
        for session_id in [session_id for session_id, each in self._by_id.items() if each.is_over]:
            del self._by_id[session_id]
        return [each for each in (*self._by_id.values(), *self._opening) if not each.leaves]

    @property
    def shortage(self) -> str:
        """The error message when no session can be opened."""
        return f"Each of the {self.limit} sessions has an active request (max_concurrent_sessions); retry later."

    def check(self) -> dict[str, int]:
        """Return the number of sessions and its limit.

        Raises:
            RuntimeError: No further session can be opened.
        """
        sessions = self._present()
        if len(sessions) >= self.limit and not any(each.is_idle for each in sessions):
            raise RuntimeError(self.shortage)
        return {"open": len(sessions), "limit": self.limit}


def _longest_idle(sessions: Iterable[OpenSession], counts: Counter[str]) -> OpenSession | None:
    """Return the session to close: of the caller with most, without a stream if possible, longest idle."""
    idle = (each for each in sessions if each.is_idle)
    return max(idle, key=lambda each: (counts[each.caller], -each.streams, -each.used_at), default=None)
