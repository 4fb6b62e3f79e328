"""`SharedQueues`: queues of calls in a store that several processes share."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from nexus_core.errors import BackendUnavailable, NexusError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.state.heartbeat import Heartbeat
    from nexus_core.state.queues import Place, QueueLimits
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

KEPT_SECONDS = 7 * 86_400.0
"""How long a queue stays in the store that nothing changes. The last call to leave one removes it."""

POLL_SECONDS, LONGEST_POLL_SECONDS = 0.02, 0.2
"""How often a queue is read while calls of this process wait in it: less often the longer nothing changes."""

DEATH_SECONDS = 5.0
"""How long a call of another process has its turn before its process is checked, and between two checks."""

RETRY_SECONDS = 0.5
"""How soon a place is given back again when the store did not answer."""

LEAVE_SECONDS = 1.0
"""How long a caller waits for its place to be given back. It is given back later otherwise."""

PAUSE_SECONDS = 0.002
"""The longest pause before a change is tried again that another process got in the way of; it grows with each."""

_Tickets = list[tuple[str, str]]
"""What is in the store: the id of each place and the process that it is of, the first one's turn first."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Tickets).decode


class SharedQueues:
    """Queues in a store, each under one key, changed by compare-and-set. A queue has an order for all processes.

    A process says by its heartbeat that it lives. The places of a process that has died are removed by other processes
    with waiting calls.

    Args:
        store: The store.
        heartbeat: The heartbeat of this process in the store. Closed with the queues.
        limits: How many calls may wait.
    """

    def __init__(self, store: Store, heartbeat: Heartbeat, limits: QueueLimits) -> None:
        self._store = store
        self._heartbeat = heartbeat
        self._limits = limits
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, key: str, place: Place) -> None:
        """See `Queues.join`."""
        if not self._heartbeat.has_begun:
            await self._heartbeat.begin()
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(f"queue:{key}")
        line.places[place.id] = place
        process = self._heartbeat.process

        def append(tickets: _Tickets) -> _Tickets:
            if tickets:
                self._limits.check(len(tickets) - 1)
            return [*tickets, (place.id, process)]

        await self._change(line, append)
        line.joined.add(place.id)
        if not place.turn.done() and line.watch is None:
            line.watch = self._start(self._watch(line), f"nexus-queue-{key}")

    async def leave(self, key: str, place: Place) -> None:
        """See `Queues.leave`. Where the store does not answer, it is done as soon as it does."""
        line = self._lines.get(key)
        if line is None or line.places.pop(place.id, None) is None:
            return
        line.joined.discard(place.id)
        await asyncio.wait([self._start(self._settle(key, line), "nexus-queue-leave")], timeout=LEAVE_SECONDS)

    async def close(self) -> None:
        """See `Queues.close`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LEAVE_SECONDS)
        for task in [*self._tasks]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._heartbeat.close()

    def _start(self, work: object, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _settle(self, key: str, line: _Line) -> None:
        """Remove from a queue what this process has there no more."""
        while True:
            try:
                await self._change(line, lambda tickets: tickets)
                break
            except NexusError as exc:
                log.debug("A place in a queue could not be given back yet: %s", exc)
                await asyncio.sleep(RETRY_SECONDS)
        if not line.places and not line.lock.locked() and self._lines.get(key) is line:
            del self._lines[key]
            if line.watch is not None:
                line.watch.cancel()

    async def _change(self, line: _Line, edit: Callable[[_Tickets], _Tickets]) -> None:
        """Change a queue by a function, until that has worked on what is in the store.

        Places of this process that it has left, such as when the store did not answer, are removed on the way.
        """
        async with line.lock:
            try:
                tried = 0
                while not await self._try(line, edit):
                    tried += 1
                    await asyncio.sleep(random.uniform(0, min(PAUSE_SECONDS * tried, 0.05)))  # noqa: S311  (no secret)
            except BaseException:
                line.text = None  # what is there now is not known
                raise

    async def _try(self, line: _Line, edit: Callable[[_Tickets], _Tickets]) -> bool:
        if line.text is None:
            line.text = await self._store.get(line.key) or b""
        text = line.text
        before = _decoded(text)
        process = self._heartbeat.process
        kept = [each for each in before if each[1] != process or each[0] in line.places]
        after = edit(kept)
        if after == before:
            self._tell(line, after)
            return True
        line.text = None
        if not after:
            changed, new = await self._store.delete(line.key, text), b""
        elif text:
            new = _encode(after)
            changed = await self._store.replace(line.key, text, new, KEPT_SECONDS)
        else:
            new = _encode(after)
            there = await self._store.add(line.key, new, KEPT_SECONDS)
            changed = there is None
            line.text = there
        if changed:
            line.text = new
            self._tell(line, after)
        return changed

    def _tell(self, line: _Line, tickets: _Tickets) -> None:
        """Tell the places of this process where they are now."""
        line.head = tickets[0][1] if tickets else ""
        for position, (place_id, _) in enumerate(tickets):
            place = line.places.get(place_id)
            if place is not None:
                place.move(position)

    async def _watch(self, line: _Line) -> None:
        """Read a queue again and again while calls of this process wait in it."""
        loop = asyncio.get_running_loop()
        pause, seen, checked = POLL_SECONDS, line.text, loop.time()
        try:
            while any(not place.turn.done() for place in line.places.values()):
                is_own = line.head == self._heartbeat.process  # then this process hears of the end
                await asyncio.sleep(LONGEST_POLL_SECONDS if is_own else pause)
                try:
                    await self._look(line)
                    if line.text != seen:
                        pause, seen, checked = POLL_SECONDS, line.text, loop.time()
                        continue
                    pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
                    if loop.time() - checked >= DEATH_SECONDS:
                        await self._bury(line)
                        checked = loop.time()
                except BackendUnavailable:
                    pause = RETRY_SECONDS
        finally:
            line.watch = None

    async def _look(self, line: _Line) -> None:
        async with line.lock:
            line.text = await self._store.get(line.key) or b""
            tickets = _decoded(line.text)
            self._tell(line, tickets)
        there = {place_id for place_id, _ in tickets}
        lost = [place for place_id, place in line.places.items() if place_id in line.joined - there]
        lost = [place for place in lost if not place.turn.done()]
        if lost:  # the store has lost the queue
            own = [(place.id, self._heartbeat.process) for place in lost]
            await self._change(line, lambda tickets: [*tickets, *(each for each in own if each not in tickets)])

    async def _bury(self, line: _Line) -> None:
        """Remove the places of the process whose call has its turn, if that process has died."""
        dead = line.head
        if await self._heartbeat.is_dead(dead):
            await self._change(line, lambda tickets: [each for each in tickets if each[1] != dead])
            log.warning("A process has died whose call had its turn in a queue; the next call has it now")


class _Line:
    """One queue, as this process knows it.

    Attributes:
        key: Where it is in the store.
        text: What is there, as far as is known; None where it is not.
        head: The process whose call has its turn.
        places: The places of this process in it.
        joined: Those of them that were seen in the store.
        watch: What reads it while places wait.
    """

    __slots__ = ("head", "joined", "key", "lock", "places", "text", "watch")

    def __init__(self, key: str) -> None:
        self.key = key
        self.text: bytes | None = b""
        self.head = ""
        self.places: dict[str, Place] = {}
        self.joined: set[str] = set()
        self.lock = asyncio.Lock()
        self.watch: asyncio.Task[None] | None = None


def _decoded(text: bytes) -> _Tickets:
    try:
        return _decode(text) if text else []
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.error("What the store has in the place of a queue was not written by this program; the queue is empty now")
        return []
