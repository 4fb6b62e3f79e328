"""`SharedEventLog`: the events of all processes in one log, which outlives each of them.

An `EventTransport` keeps the log: it gives every event its place and its id. Each process sends what happens in it, in
order, and reads what happens in all of them as long as there are followers. While the transport does not answer,
events wait in memory, and followers wait for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from nexus_core.errors import BackendUnavailable, NexusError, error_from_problem
from nexus_core.events.event import EVENTS_MISSED, WORKFLOW_OUTPUT, ChannelEvent, EventBus
from nexus_core.events.log import EventLog, Follower, parse_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

log = logging.getLogger(__name__)

WAITING = 10_000
"""Events that wait to be sent, before the oldest are dropped and followers are notified."""

BATCH = 200
"""Events in one step to the transport, or from it."""

BATCH_BYTES = 256 * 1024
"""Bytes in one step to the transport, or one event if that has more: it must get through in time."""

GATHER_SECONDS = 0.01
"""The shortest time between two steps to the transport, unless a whole batch waits: a step costs what ten events do."""

RETRY_SECONDS = 0.2
"""How long after a failure the transport is asked again."""

LAST_SECONDS = 1.0
"""How long the events of a process that stops may take to be sent."""

BEFORE_ALL = "0-0"
"""The id of the place before the first event."""

Entry = tuple[str, bytes]
"""An event's id, and its text."""


@runtime_checkable
class EventTransport(Protocol):
    """Keeps one log of events for all processes. Every method raises `BackendUnavailable` when it can't answer."""

    name: str

    async def append(self, origin: str, first: int, texts: Sequence[bytes]) -> None:
        """Add events to the log, in order.

        Args:
            origin: The process that they come from.
            first: The number of the first; the others follow it. Events of an origin with a number that is in the log
                already are not added again: a sender that does not know whether they arrived may repeat himself.
            texts: The events.
        """

    async def latest(self) -> str:
        """Return the id of the latest event, or of the place before the first."""

    async def has_all_after(self, event_id: str) -> bool:
        """Whether the log still has every event after one of this id. False for an id that it has never given out."""

    async def between(self, after: str, to: str, limit: int) -> Sequence[Entry]:
        """Return the first events after an id, up to another and that one included."""

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        """Wait for events after an id, a few seconds at most, and return the first of them, if any."""


class _Text(msgspec.Struct, omit_defaults=True):
    """What goes over the transport."""

    event: dict[str, Any]
    owner: str | None = None
    user_id: str | None = None
    is_public: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Text).decode


class SharedEventLog(EventLog):
    """The log of all platforms on one transport.

    Args:
        bus: Where this process' events are published.
        transport: Keeps the log.
    """

    def __init__(self, bus: EventBus, transport: EventTransport) -> None:
        super().__init__(bus)
        self._transport = transport
        self._unlisten = bus.listen(self._heard)
        self._unsent: deque[ChannelEvent] = deque()
        self._sent = self._dropped = 0
        self._news, self._idle = asyncio.Event(), asyncio.Event()
        self._sender = asyncio.create_task(self._send(), name="nexus-events-send")
        self._receiver: asyncio.Task[None] | None = None
        self._position = BEFORE_ALL
        self._opening = asyncio.Lock()

    @property
    def transport(self) -> EventTransport:
        """The transport."""
        return self._transport

    @property
    def is_sent(self) -> bool:
        """Whether every event of this process has been sent."""
        return self._idle.is_set()

    @property
    def is_receiving(self) -> bool:
        """Whether events are received, which is so while there are followers."""
        return self._receiver is not None

    # Out

    def _heard(self, event: ChannelEvent) -> None:
        if event.type == WORKFLOW_OUTPUT:  # as large as results: who wants it follows the run
            return
        if len(self._unsent) >= WAITING:
            self._unsent.popleft()
            self._dropped += 1
        self._unsent.append(event if event.result is None else event.without_result())
        self._idle.clear()
        self._news.set()

    async def _send(self) -> None:
        while True:
            while self._unsent or self._dropped:
                await self._send_batch()
            self._idle.set()
            self._news.clear()
            await asyncio.sleep(GATHER_SECONDS)  # the first after a while goes at once, many go together
            await self._news.wait()

    async def _send_batch(self) -> None:
        texts: list[bytes | None] = []
        if self._dropped:
            texts.append(_written(ChannelEvent(EVENTS_MISSED, data={"count": self._dropped})))
            self._dropped = 0
        size = 0
        while self._unsent and len(texts) < BATCH and size < BATCH_BYTES:
            texts.append(_written(self._unsent.popleft()))
            size += len(texts[-1] or b"")
        await self._append([text for text in texts if text is not None])

    async def _append(self, texts: list[bytes]) -> None:
        try:
            await _persistently(lambda: self._transport.append(self.epoch, self._sent + 1, texts))
        except Exception:
            log.exception("%d events could not be sent to the shared event log", len(texts))
        self._sent += len(texts)

    # In

    async def follow(self, after: str | None, wanted: Callable[[ChannelEvent], bool]) -> Follower:
        """See `EventLog.follow`."""
        if after is not None:
            parse_id(after)
        async with self._opening:
            if self._receiver is None:
                self._position = await self._transport.latest()
                self._receiver = asyncio.create_task(self._receive(), name="nexus-events-receive")
            follower = Follower(wanted, self._left, lambda: self._position)
            self._followers.add(follower)  # what comes from now on waits for it
        if after is not None:
            try:
                await self._catch_up_with(follower, after, follower.position)
            except BaseException:
                follower.close()
                raise
        return follower

    async def _catch_up_with(self, follower: Follower, after: str, joined: str) -> None:
        place = place_of(after)
        if place is None or not await self._transport.has_all_after(after):
            follower.miss(0)
            after, place = BEFORE_ALL, (0, 0)
        follower.position = after
        follower.begin_with(_SharedPast(self._transport, after, joined))
        if place > (place_of(joined) or (0, 0)):  # another process has been faster than this one
            follower.skip(
                lambda event: (place_of(event.id) or place) <= place,
                lambda: max(after, self._position, key=lambda each: place_of(each) or place),
            )

    def _left(self, follower: Follower) -> None:
        self._followers.discard(follower)
        if not self._followers and self._receiver is not None:
            self._receiver.cancel()
            self._receiver = None

    async def _receive(self) -> None:
        while True:
            try:
                entries = await self._transport.read(self._position, BATCH)
            except Exception as exc:
                if not isinstance(exc, BackendUnavailable):
                    log.exception("The shared event log could not be read")
                await asyncio.sleep(RETRY_SECONDS)
                await self._look_where_we_are()
                continue
            for event_id, text in entries:
                self._position = event_id
                if event := _read(event_id, text):
                    self._pass_on(event)

    async def _look_where_we_are(self) -> None:
        """Begin anew where what kept the log has come back without it: its places may be before ours."""
        latest = place_of(await _persistently(self._transport.latest))
        if latest is not None and latest < (place_of(self._position) or (0, 0)):
            self._position = BEFORE_ALL
            for follower in self._followers:
                follower.miss(0)

    def _pass_on(self, event: ChannelEvent) -> None:
        for follower in self._followers:
            if event.type == EVENTS_MISSED:
                follower.miss((event.data or {}).get("count") or 0)
            else:
                follower.put(event)

    async def close(self) -> None:
        """Send what waits, for `LAST_SECONDS`, and end."""
        self._unlisten()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._idle.wait()
        tasks = [task for task in (self._sender, self._receiver) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class _SharedPast:
    """The events after one id and up to another, page by page. It can be asked again when it was cancelled."""

    def __init__(self, transport: EventTransport, after: str, to: str) -> None:
        self._transport = transport
        self._after = after
        self._to = to
        self._page: deque[Entry] = deque()
        self._is_last = False

    async def next(self) -> ChannelEvent | None:
        """Return the next one; None at the end."""
        while True:
            while self._page:
                if event := _read(*self._page.popleft()):
                    return event
            if self._is_last:
                return None
            entries = await _persistently(lambda: self._transport.between(self._after, self._to, BATCH))
            self._is_last = len(entries) < BATCH
            if entries:
                self._page.extend(entries)
                self._after = entries[-1][0]


def place_of(event_id: str) -> tuple[int, int] | None:
    """Return the place of a shared event; None for the id of another log."""
    milliseconds, dash, sequence = event_id.partition("-")
    if not dash or not (milliseconds + sequence).isdecimal() or not milliseconds or not sequence:
        return None
    place = int(milliseconds), int(sequence)
    return place if max(place) < 2**64 else None


async def _persistently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until there is an answer: whoever follows waits for as long as it takes, or leaves."""
    while True:
        try:
            return await ask()
        except BackendUnavailable:
            await asyncio.sleep(RETRY_SECONDS)


def _written(event: ChannelEvent) -> bytes | None:
    try:
        return _encode(_Text(event.to_dict(), event.owner, event.user_id, event.is_public))
    except (TypeError, ValueError):
        log.exception(
            "An event of type %s cannot be converted to JSON and is not sent to the shared event log", event.type
        )
        return None


def _read(event_id: str, text: bytes) -> ChannelEvent | None:
    """Return the event of an entry; None where somebody else has written it."""
    try:
        told = _decode(text)
        members = told.event
        problem = members.get("error")
        error: NexusError | None = None if problem is None else error_from_problem(problem)
        return ChannelEvent(
            members["type"], members.get("workflow", ""), members.get("channel", ""), members.get("run_id", ""),
            members.get("session_id"), told.user_id, members.get("data"), None, error, members.get("duration"),
            members.get("number", 0), members["time"], told.owner, told.is_public, event_id,
        )  # fmt: skip
    except Exception:
        log.debug("An entry of the shared events can't be read: %r", text[:100])
        return None
