"""`Cleaning`: removes expired sessions every now and then, and tells of each once."""

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
"""The least time that a manager's own cleaning gets: it has many sessions to look after."""


class Cleaning:
    """Cleans up every so many seconds, whatever goes wrong.

    Args:
        service: Does the work.
        interval: Seconds between two sweeps.
    """

    def __init__(self, service: SessionService, interval: float) -> None:
        self._service = service
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Call it on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._clean(), name="nexus-session-cleaning")

    async def end(self) -> None:
        """End."""
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
        """Clean up until there is nothing left to, or nothing gets less."""
        before: list[str] = []
        while True:
            await self._sweep_some()
            due = self._service.seen.due(time.time(), BATCH)
            if due in ([], before):
                return
            before = due

    async def _sweep_some(self) -> None:
        overrides = self._service.overrides
        async with self._service.unit(None, sees_all=True) as unit:
            if overrides.has("cleanup_expired_sessions"):
                seconds = max(SWEEP_SECONDS, self._interval)
                await overrides.call(unit, "cleanup_expired_sessions", seconds=seconds)
            else:
                await self._service.cleanup(unit)
            await self._service.keep(unit)
