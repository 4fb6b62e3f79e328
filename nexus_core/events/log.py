"""`EventLog`: the latest events, for followers of all events rather than one run's.

This is the log of one process. It listens from the first follower on: without followers, it costs nothing.
Where processes share their events, `nexus_core.events.shared_log` takes its place.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from nexus_core.errors import MalformedRequest
from nexus_core.events.event import EVENTS_MISSED, WORKFLOW_OUTPUT, ChannelEvent, EventBus

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 1000
"""Events that are kept for followers who come back."""

BACKLOG = 1000
"""Events that wait for one follower, before the oldest make room and the follower is notified."""

LONGEST_ID = 64
"""Characters of an event's id, at most."""


class EventLog:
    """The log of one platform.

    Args:
        bus: Where events are published.

    Attributes:
        epoch: Names this log among those of other processes, and of this one before a restart.
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._kept: deque[ChannelEvent] = deque(maxlen=KEPT)
        self._followers: set[Follower] = set()
        self._is_listening = False
        self._began_after = 0
        self._ids = OpaqueNumbers()
        self.epoch = f"{int(time.time()):x}{secrets.token_hex(2)}"

    @property
    def followed_by(self) -> int:
        """How many follow it."""
        return len(self._followers)

    async def follow(self, after: str | None, wanted: Callable[[ChannelEvent], bool]) -> Follower:
        """Return a follower of the events that are wanted, from now on or from those after an id.

        Args:
            after: The id of the last event that the follower has seen; None for from now on.
            wanted: Whether it wants an event. Called on the event loop with each; must be quick.

        Raises:
            MalformedRequest: The id has not the form of one.
            BackendUnavailable: Where events are shared: what shares them does not answer.
        """
        if not self._is_listening:
            self._is_listening, self._began_after = True, self._bus.latest
            self._bus.listen(self._heard)
        follower = Follower(wanted, self._followers.discard, lambda: self._id(self._bus.latest))
        if after is not None:
            self._catch_up(follower, after)
        self._followers.add(follower)
        return follower

    def _id(self, place: int) -> str:
        return f"{self.epoch}-{self._ids.written(place)}"

    def _catch_up(self, follower: Follower, after: str) -> None:
        """Give a follower what came after the last event that it has seen, and tell it if that is not everything."""
        epoch, number = parse_id(after)
        place = self._ids.read(number)
        oldest = self._kept[0].order - 1 if len(self._kept) == KEPT else self._began_after
        if epoch != self.epoch or not oldest <= place <= self._bus.latest:
            follower.miss(0)
            place, after = oldest, self._id(oldest)
        follower.position = after
        for event in self._kept:
            if event.order > place:
                follower.put(event)

    def _heard(self, event: ChannelEvent) -> None:
        if event.type == WORKFLOW_OUTPUT:  # as large as results: who wants it follows the run
            return
        light = event if event.result is None else event.without_result()
        light.id = self._id(event.order)
        self._kept.append(light)
        for follower in self._followers:
            follower.put(light)

    async def close(self) -> None:
        """End what it has begun. A log of one process goes on: who follows it may come back after the next start."""


class OpaqueNumbers:
    """Writes numbers so that they can't be told apart by size from outside: followers must not count others' events.

    A number of 48 bits and 16 random ones go through a Feistel network of four rounds with a key of this object's own.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)

    def written(self, number: int) -> int:
        """Return one of the ways to write a number."""
        left, right = (number >> 16) & 0xFFFFFFFF, (number & 0xFFFF) << 16 | secrets.randbits(16)
        for round_number in range(4):
            left, right = right, left ^ self._mixed(right, round_number)
        return left << 32 | right

    def read(self, written: int) -> int:
        """Return the number that was written; any number for what was not."""
        left, right = (written >> 32) & 0xFFFFFFFF, written & 0xFFFFFFFF
        for round_number in reversed(range(4)):
            left, right = right ^ self._mixed(left, round_number), left
        return left << 16 | right >> 16

    def _mixed(self, half: int, round_number: int) -> int:
        block = half.to_bytes(4, "big") + bytes((round_number,))
        return int.from_bytes(blake2b(block, digest_size=4, key=self._key).digest(), "big")


def parse_id(text: str) -> tuple[str, int]:
    """Return the two parts of an event's id: ``epoch-number``, or the ``milliseconds-sequence`` of a shared log.

    Raises:
        MalformedRequest: It has not that form.
    """
    epoch, dash, digits = text.partition("-")
    if len(text) > LONGEST_ID or not dash or not digits.isascii() or not digits.isdigit():
        raise MalformedRequest("The id of the last event was not issued by a server.")
    return epoch, int(digits)


class Past(Protocol):
    """Events that have been, for a follower who catches up."""

    async def next(self) -> ChannelEvent | None:
        """Return the next one; None at the end. When it is cancelled, nothing is lost."""


class Follower:
    """The events that wait for a follower: bounded, and honest about what was dropped.

    Args:
        wanted: Whether an event is wanted.
        gone: Called when it follows no more.
        latest: Returns the id of the latest event that has come to all followers.

    Attributes:
        position: The id of the event after which it follows. Who has got no event yet can go on from here.
    """

    def __init__(
        self, wanted: Callable[[ChannelEvent], bool], gone: Callable[[Follower], None], latest: Callable[[], str]
    ) -> None:
        self.position = latest()
        self._latest = latest
        self._wanted = wanted
        self._gone = gone
        self._past: Past | None = None
        self._waiting: deque[ChannelEvent] = deque()
        self._missed: int | None = None
        self._news = asyncio.Event()

    def put(self, event: ChannelEvent) -> None:
        """Add an event, if it is wanted. Called on the event loop."""
        if not self._wanted(event):
            return
        if len(self._waiting) >= BACKLOG:
            self._waiting.popleft()
            self.miss(1)
        self._waiting.append(event)
        self._news.set()

    def miss(self, count: int) -> None:
        """Note that some events won't come; 0 where their number is unknown."""
        self._missed = (self._missed or 0) + count
        self._news.set()

    def begin_with(self, past: Past) -> None:
        """Add past events, before the events from now on."""
        self._past = past

    @property
    def cursor(self) -> str | None:
        """The id to go on from for who has got everything, also past what it does not want; None where more waits."""
        has_more = self._waiting or self._past is not None or self._missed is not None
        return None if has_more else self._latest()

    def skip(self, seen: Callable[[ChannelEvent], bool], latest: Callable[[], str]) -> None:
        """Leave out events that it has seen already, waiting ones included.

        Args:
            seen: Whether it has seen an event.
            latest: Takes the place of the one that it was made with.
        """
        self._latest = latest
        wanted = self._wanted
        self._wanted = lambda event: not seen(event) and wanted(event)
        self._waiting = deque(event for event in self._waiting if not seen(event))

    async def next(self, timeout: float | None = None) -> ChannelEvent | None:
        """Return the next event; None if none comes within ``timeout`` seconds.

        In the place of events that were dropped comes one of type ``events.missed``, with their count if it is known.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._next()
        except TimeoutError:
            return None

    async def ready(self, limit: int) -> list[ChannelEvent]:
        """Return the events that have happened already and were not given out, at most ``limit``."""
        found: list[ChannelEvent] = []
        while len(found) < limit and (event := await self._there()) is not None:
            found.append(event)
        return found

    async def _next(self) -> ChannelEvent:
        while (event := await self._there()) is None:
            self._news.clear()
            await self._news.wait()
        return event

    async def _there(self) -> ChannelEvent | None:
        """Return the next event, if it has happened already."""
        if self._missed is not None:
            missed, self._missed = self._missed, None
            return ChannelEvent(EVENTS_MISSED, data={"count": missed or None})
        while self._past is not None:
            event = await self._past.next()
            if event is None:
                self._past = None
            elif event.type == EVENTS_MISSED or self._wanted(event):
                return event
        return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Follow no more."""
        self._gone(self)
