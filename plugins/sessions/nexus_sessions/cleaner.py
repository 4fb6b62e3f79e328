"""`ExpiredSessionCleaner`: removes expired sessions periodically, and publishes an event for each once."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core import NexusError
from nexus_sessions.service import BATCH

if TYPE_CHECKING:
    from nexus_sessions.service import SessionService

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""Minimum time limit for a manager's own cleanup, which has many sessions to handle."""


class ExpiredSessionCleaner:
    """Cleans up periodically; a failure does not stop it.

    Args:
        service: The sessions.
        interval: Seconds between two sweeps.
    """

    def __init__(self, service: SessionService, interval: float) -> None:
        self._service = service
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start. Call it on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._clean(), name="nexus-session-cleaner")

    async def stop(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.sweep()
            except NexusError as exc:
                log.warning("Expired sessions could not be cleaned up: %s", exc)
            except Exception:
                log.exception("Expired sessions could not be cleaned up")

    async def sweep(self) -> None:
        """Clean up until no expired session is left, or none of the rest can be removed."""
        before: list[str] = []
        while True:
            await self._sweep_batch()
            expired = self._service.recent_ids.expired(time.time(), BATCH)
            if expired in ([], before):
                return
            before = expired

    async def _sweep_batch(self) -> None:
        overrides = self._service.overrides
        async with self._service.unit_of_work(None, sees_all=True) as unit:
            if overrides.has("cleanup_expired_sessions"):
                seconds = max(SWEEP_SECONDS, self._interval)
                await overrides.call(unit, "cleanup_expired_sessions", seconds=seconds)
            else:
                await self._service.cleanup(unit)
            await self._service.commit(unit)
