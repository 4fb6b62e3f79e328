"""`RunFeeds`: what followers of stored runs share, so that a thousand of them cost one query for each change."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from nexus_core.runs.record import RunEvent, RunState

BATCH = 1000
"""Events that are read at a time."""

FEED_EVENTS = 1000
FEED_BYTES = 1024 * 1024
"""How many of a run's latest events its followers share; a follower further behind reads the store itself."""

RETRY_SECONDS = 0.5
"""Pause after the store could not be read, while followers wait."""


class Readable(Protocol):
    """What feeds read from."""

    async def get(self, run_id: str, *, payloads: bool = True) -> RunState | None:
        """See `RunStore.get`."""

    async def events(self, run_id: str, after: int = 0, limit: int = BATCH) -> list[RunEvent]:
        """See `RunStore.events`."""

    def watch(self, run_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """See `RunStore.watch`."""


class RunFeeds:
    """The feeds of the runs that are followed in this process. There is one for each run that has followers.

    Args:
        store: The store.
    """

    def __init__(self, store: Readable) -> None:
        self._store = store
        self._feeds: dict[str, _Feed] = {}

    @contextmanager
    def _followed(self, run_id: str, after: int) -> Iterator[_Feed]:
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = _Feed(self._store, run_id, after)
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers and self._feeds.get(run_id) is feed:
                del self._feeds[run_id]
                feed.close()

    async def changed(self, run_id: str, after: int, timeout: float | None) -> bool:
        """See `RunStore.changed`."""
        with self._followed(run_id, after) as feed:
            return await feed.reached(after, timeout)

    async def follow(self, run_id: str, after: int, heartbeat: float | None) -> AsyncGenerator[RunEvent | None, None]:
        """See `RunStore.follow`."""
        with self._followed(run_id, after) as feed:
            while True:
                if not await feed.reached(after, heartbeat):
                    yield None
                    continue
                fresh = await feed.after(after)
                for event in fresh:
                    after = event.number
                    yield event
                if not fresh and feed.is_over:
                    return


class _Feed:
    """The latest events of one run, read once for all its followers in this process."""

    def __init__(self, store: Readable, run_id: str, after: int) -> None:
        self._store = store
        self._run_id = run_id
        self._events: deque[RunEvent] = deque()
        self._size = 0
        self._begin = self._last = after
        self._waiters: set[asyncio.Future[None]] = set()
        self._has_news = asyncio.Event()
        self._has_news.set()  # what happened before is read at once
        self._error: Exception | None = None
        self._was_read = False
        self.is_over = False
        self.followers = 0
        self._unwatch = store.watch(run_id, self._has_news.set)
        self._task = asyncio.get_running_loop().create_task(self._read(), name="nexus-run-feed")

    def close(self) -> None:
        """Stop reading."""
        self._unwatch()
        self._task.cancel()

    async def reached(self, after: int, timeout: float | None) -> bool:
        """Wait until there is an event after this one, or the run has ended. Returns whether it has come to that."""
        try:
            async with asyncio.timeout(timeout):
                while self._last <= after and not self.is_over:
                    if self._error is not None:
                        raise self._error
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            return False
        return True

    async def after(self, number: int) -> list[RunEvent]:
        """Return events after a number, in order: shared ones, or read ones where those do not go back so far."""
        if number < self._begin:
            return await self._store.events(self._run_id, number, BATCH)
        return [event for event in self._events if event.number > number]

    async def _read(self) -> None:
        while not self.is_over:
            await self._has_news.wait()
            self._has_news.clear()
            try:
                await self._catch_up()
            except Exception as exc:
                if not self._was_read:  # later, followers wait until the store is back
                    self._error = exc
                    self._wake()
                self._has_news.set()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._error, self._was_read = None, True
                self._wake()
        self._unwatch()

    async def _catch_up(self) -> None:
        """Read what is new. Whether the run has ended is read first: the events before its end are all there then."""
        state = await self._store.get(self._run_id, payloads=False)
        while state is not None and self._last < state.last_event:
            fresh = await self._store.events(self._run_id, self._last, BATCH)
            if not fresh:
                break
            self._add(fresh)
            self._wake()
        self.is_over = state is None or state.has_ended

    def _add(self, fresh: list[RunEvent]) -> None:
        for event in fresh:
            self._events.append(event)
            self._size += len(event.body)
            self._last = event.number
        while len(self._events) > FEED_EVENTS or self._size > FEED_BYTES:
            oldest = self._events.popleft()
            self._size -= len(oldest.body)
            self._begin = oldest.number

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
