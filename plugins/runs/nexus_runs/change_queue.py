"""`ChangeQueue`: what waits to be written. Callers at the same time share a transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from nexus_toolkit.outage_log import OutageLog

from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.errors import BackendUnavailable
from nexus_core.runs.record import RunChange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nexus_core.runs.record import Written

log = logging.getLogger(__name__)

DELAY_SECONDS = 0.03
"""How long a change that may be late waits for others to be written with it."""

BATCH = 500
BATCH_BYTES = 4 * 1024 * 1024
"""How many changes, and bytes of them, are written in one transaction."""

RETRY_SECONDS = 0.5
"""Pause after a failure. Meanwhile `write` fails at once."""

CLOSE_SECONDS = 3.0
"""How long `close` waits for what has to be written."""

ENDS_KEPT = 10
"""So many times the bound of others, ends without results wait: else their runs would seem to go on for ever."""


@dataclass(slots=True, eq=False)
class _Entry:
    changes: list[RunChange]
    size: int
    future: asyncio.Future[list[Written]] | None = None


class ChangeQueue:
    """Writes changes in batches, in order: the next batch is what has come while one is written.

    Args:
        store: Name of the store, for the log.
        apply: Writes changes in one transaction. The second argument is whether a caller waits for it.
        applied: Receives what was written, and the results.
        max_waiting: How many changes that may be late wait at most.
        max_bytes: How many bytes of them.

    Attributes:
        is_open: Whether it takes changes.
        dropped: How many changes were not written.
    """

    def __init__(
        self,
        store: str,
        apply: Callable[[Sequence[RunChange], bool], Awaitable[list[Written]]],
        applied: Callable[[Sequence[RunChange], Sequence[Written]], None],
        max_waiting: int,
        max_bytes: int,
    ) -> None:
        self._apply = apply
        self._applied = applied
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._entries: deque[_Entry] = deque()
        self._late: dict[str, _Entry] = {}
        self._waiting = self._bytes = self._urgent = 0
        self._task: asyncio.Task[None] | None = None
        self._is_due = asyncio.Event()
        self._away_until = 0.0
        self._is_closing = False
        self.is_open = False
        self._outage = OutageLog(
            log, f"The run store {store} is unavailable, runs wait to be written", f"The run store {store} is back"
        )
        self._drops = RateLimitedLog(log)
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """How many changes are not written yet."""
        return self._waiting

    async def write(self, changes: Sequence[RunChange]) -> list[Written]:
        """See `RunStore.write`."""
        if time.monotonic() < self._away_until or not self.is_open:
            raise unavailable()
        future: asyncio.Future[list[Written]] = asyncio.get_running_loop().create_future()
        for change in changes:
            self._late.pop(change.run_id, None)  # what comes later may not be merged with what came before this
        self._put(_Entry([*changes], 0, future))
        self._urgent += 1
        self._is_due.set()
        return await future

    def write_later(self, change: RunChange) -> None:
        """See `RunStore.write_later`."""
        if not self.is_open:
            self.drop(1, "the store is closed")
            return
        size = change.size
        if self._waiting >= self._max_waiting or self._bytes + size > self._max_bytes:
            shortened = self._shortened(change)
            if shortened is None:
                self.drop(1, "too many of them wait")
                return
            change, size = shortened, 0
        self._bytes += size
        entry = self._late.get(change.run_id) if self._late and change.record is None else None
        if entry is not None and entry.changes[0].attempt == change.attempt:
            entry.changes.append(change)
            entry.size += size
            if change.ends:
                del self._late[change.run_id]
            return
        entry = _Entry([change], size)
        if not change.ends:
            self._late[change.run_id] = entry
        self._put(entry)
        if len(self._entries) >= BATCH:
            self._is_due.set()

    def _shortened(self, change: RunChange) -> RunChange | None:
        """Return what is written of a change that has no room: how a run has ended that is stored already, or None."""
        if not change.ends or change.record is not None or self._waiting >= ENDS_KEPT * self._max_waiting:
            return None
        return replace(change, result=None, events=change.events[-1:], steps=())

    def drop(self, count: int, reason: str) -> None:
        """Count changes that are not written, and log that."""
        self.dropped += count
        self._drops.log(logging.WARNING, reason, "Runs are not stored: %s (%d changes so far)", reason, self.dropped)

    def _put(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._waiting += len(entry.changes)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain(), name="nexus-runs-writer")

    async def _drain(self) -> None:
        while self._entries:
            if not self._urgent and not self._is_closing and len(self._entries) < BATCH:
                timer = asyncio.get_running_loop().call_later(DELAY_SECONDS, self._is_due.set)
                try:
                    await self._is_due.wait()
                finally:
                    timer.cancel()
            self._is_due.clear()
            batch = self._take()
            try:
                await self._write(batch)
            except BackendUnavailable as exc:
                self._failed(batch, exc)
                await asyncio.sleep(RETRY_SECONDS)
            except asyncio.CancelledError:
                self._failed(batch, unavailable())
                raise
            except Exception as exc:
                await self._write_singly(batch, exc)

    def _take(self) -> list[_Entry]:
        batch: list[_Entry] = []
        count = size = 0
        while self._entries and count < BATCH and size < BATCH_BYTES:
            entry = self._entries.popleft()
            batch.append(entry)
            if entry.future is None:
                if self._late or len(entry.changes) > 1:
                    self._merge(entry)
                size += entry.size
            else:
                self._urgent -= 1
                size += sum(change.size for change in entry.changes)
            count += len(entry.changes)
        return batch

    def _merge(self, entry: _Entry) -> None:
        """Make one change of all. Done once, since each time copies the events: a stream may have very many."""
        run_id = entry.changes[0].run_id
        if self._late.get(run_id) is entry:
            del self._late[run_id]
        if len(entry.changes) > 1:
            entry.changes = [RunChange.merged(entry.changes)]

    def _done(self, entry: _Entry) -> None:
        self._waiting -= len(entry.changes)
        self._bytes -= entry.size

    async def _write(self, batch: list[_Entry]) -> None:
        changes = [change for entry in batch for change in entry.changes]
        awaited = [entry for entry in batch if entry.future is not None]
        written = await self._apply(changes, bool(awaited))
        self._away_until = 0.0
        self._outage.succeeded()
        for entry in batch:
            self._done(entry)
        if awaited:
            results = iter(written)
            for entry in batch:
                own = [*islice(results, len(entry.changes))]
                if entry.future is not None and not entry.future.done():
                    entry.future.set_result(own)
        try:
            self._applied(changes, written)
        except Exception:
            log.exception("A listener of the run store raised")

    def _failed(self, batch: list[_Entry], exc: BackendUnavailable) -> None:
        """Tell callers who wait; what may be late is the next to be written."""
        self._away_until = time.monotonic() + RETRY_SECONDS
        self._outage.failed(str(exc))
        for entry in reversed(batch):
            if entry.future is None:
                self._entries.appendleft(entry)
                continue
            self._done(entry)
            if not entry.future.done():
                entry.future.set_exception(unavailable())

    async def _write_singly(self, batch: list[_Entry], exc: Exception) -> None:
        """Find the change that can't be written: no other one shall suffer from it."""
        for position, entry in enumerate(batch):
            try:
                if len(batch) == 1:
                    raise exc
                await self._write([entry])
            except BackendUnavailable as outage:
                self._failed(batch[position:], outage)  # none of a run's changes may overtake another
                await asyncio.sleep(RETRY_SECONDS)
                return
            except asyncio.CancelledError:
                self._failed(batch[position:], unavailable())
                raise
            except Exception as reason:
                self._done(entry)
                if entry.future is None:  # the text of the error may repeat the value, and that may be a secret
                    self.drop(len(entry.changes), f"they can't be written ({type(reason).__name__})")
                elif not entry.future.done():
                    entry.future.set_exception(reason)

    async def close(self) -> None:
        """Write what waits, for at most `CLOSE_SECONDS`; the rest is dropped."""
        self.is_open, self._is_closing = False, True
        self._is_due.set()
        task = self._task
        if task is not None and not task.done():
            await asyncio.wait({task}, timeout=CLOSE_SECONDS)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._entries:
            self.drop(self._waiting, "the store was unavailable when the process ended")
        for entry in self._entries:
            if entry.future is not None and not entry.future.done():
                entry.future.set_exception(unavailable())
        self._entries.clear()
        self._late.clear()
        self._waiting = self._bytes = self._urgent = 0
        self._is_closing = False


def unavailable() -> BackendUnavailable:
    """Return the error for callers, who need not know which store it is."""
    return BackendUnavailable("The run store is unavailable.", retry_after=1.0)
