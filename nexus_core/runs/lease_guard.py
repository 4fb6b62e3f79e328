"""`LeaseGuard`: renews this process's lease while its event loop stands still."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

from nexus_core.errors import BackendUnavailable

if TYPE_CHECKING:
    from nexus_core.runs.store import RunStore

log = logging.getLogger(__name__)

STANDSTILL_SECONDS = 60.0
"""Seconds that an event loop may stand still before its process counts as dead: a call that holds it for so long (a
large parse, a sync library) mostly comes back, one that holds it longer mostly does not."""

STOP_SECONDS = 5.0
"""How long the end of the thread is waited for."""


class LeaseGuard:
    """A thread that renews the lease in place of the event loop, when that has not done so in time.

    Else another process would end the runs of this one as interrupted, though it works on them. While the event loop
    works, the thread reads the clock and does no more.

    Args:
        store: The store.
        lease: Seconds for which a process counts as alive after its last sign of life.
    """

    def __init__(self, store: RunStore, lease: float) -> None:
        self._store = store
        self._lease = lease
        self._renewed_at = time.monotonic()
        self._is_over = threading.Event()
        self._has_stopped = asyncio.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin. Call it on the event loop."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="nexus-run-lease", daemon=True)
        self._thread.start()

    def renewed(self) -> None:
        """Note that the event loop has renewed the lease, or has tried: it works."""
        self._renewed_at = time.monotonic()

    async def stop(self) -> None:
        """Stop, before the lease is given up."""
        if self._thread is None:
            return
        self._is_over.set()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._has_stopped.wait()
        except TimeoutError:
            log.warning("The thread that guards the lease in the run store %s does not end", self._store.name)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = self._lease / 6
        while not self._is_over.wait(pause):
            still = time.monotonic() - self._renewed_at
            if self._lease / 2 < still < STANDSTILL_SECONDS:
                self._renew(still)
        self._store.end_thread()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._has_stopped.set)

    def _renew(self, still: float) -> None:
        try:
            self._store.renew_in_thread(self._lease)
        except BackendUnavailable:
            return  # the store itself logs its outage
        except Exception:
            log.exception("The lease in the run store %s can't be renewed", self._store.name)
            return
        log.debug("The event loop has stood still for %.1f s; a thread has renewed its lease", still)
