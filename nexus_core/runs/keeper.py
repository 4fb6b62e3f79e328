"""`RunKeeper`: keeps this process's runs alive in a `RunStore`, ends those of processes that have died, and prunes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core.errors import BackendUnavailable
from nexus_core.runs.lease_guard import LeaseGuard
from nexus_core.runs.retention import Pruned, RunRetention
from nexus_core.runs.store import LEASE_SECONDS, PRUNED, REAPED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nexus_core.runs.record import RunState
    from nexus_core.runs.store import RunStore

log = logging.getLogger(__name__)

RENEWALS = 3
"""How often a lease is renewed before it would end. Runs of dead processes are looked for as often."""

RETRY_SECONDS = 0.5
"""Pause after the store was unavailable."""

PRUNE_SECONDS = 60.0
"""Seconds between two prunings."""

PASS_SECONDS = 0.2
"""Pause between the passes of one pruning: others use the store too."""


class RunKeeper:
    """What one process does for a run store all the time. It begins when the store is open.

    A process that is killed has its runs ended by another one, or by its successor, within
    ``LEASE_SECONDS * (1 + 1 / RENEWALS)`` seconds. One whose event loop stands still keeps its runs for as long as
    `nexus_core.runs.lease_guard.STANDSTILL_SECONDS`.

    Args:
        store: The store.
        keep: What is kept of runs that have ended.
        reaped: Receives each run that this process has ended because the run's process had died.
        lease: Seconds for which a process counts as alive after its last sign of life.
        prune_seconds: Seconds between two prunings.
    """

    def __init__(
        self,
        store: RunStore,
        keep: RunRetention | None = None,
        reaped: Callable[[RunState], object] | None = None,
        *,
        lease: float = LEASE_SECONDS,
        prune_seconds: float = PRUNE_SECONDS,
    ) -> None:
        self._store = store
        self._keep = keep or RunRetention()
        self._reaped = reaped
        self._lease = lease
        self._prune_seconds = prune_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self._guard: LeaseGuard | None = None

    def begin(self) -> None:
        """Begin. Call it on the event loop of the store."""
        self._guard = LeaseGuard(self._store, self._lease)
        self._guard.begin()
        pause = self._lease / RENEWALS
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._repeat(self._renew, pause), name="nexus-run-leases"),
            loop.create_task(self._repeat(self._reap, pause), name="nexus-run-reaper"),
        ]
        if self._keep != RunRetention():
            self._tasks.append(
                loop.create_task(self._repeat(self._prune, self._prune_seconds), name="nexus-run-pruner")
            )

    async def stop(self) -> None:
        """Stop."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.stop()

    async def _repeat(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            pause = seconds
            try:
                await work()
            except BackendUnavailable:
                pause = min(seconds, RETRY_SECONDS)  # the store itself logs its outage
            except Exception:
                log.exception("The run store %s can't be looked after", self._store.name)
            await asyncio.sleep(pause)

    async def _renew(self) -> None:
        if self._guard is not None:
            self._guard.renewed()
        await self._store.renew(self._lease)

    async def _reap(self) -> None:
        while reaped := await self._store.reap():
            for state in reaped:
                log.warning(
                    "Run %s of %s is ended: its process has died", state.record.id, state.record.workflow,
                    extra={"run_id": state.record.id},
                )  # fmt: skip
                if self._reaped is not None:
                    self._reaped(state)
            if len(reaped) < REAPED:
                return

    async def prune(self) -> Pruned:
        """Remove what is beyond the limits, in passes. Returns what all of them have removed.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        runs = size = 0
        while True:
            pruned = await self._store.prune(self._keep, limit=PRUNED)
            runs, size = runs + pruned.runs, size + pruned.bytes
            if pruned.is_complete or not pruned.runs:
                break
            await asyncio.sleep(PASS_SECONDS)
        if runs:
            log.info("%d runs were removed from the run store %s", runs, self._store.name)
        return Pruned(runs, size, pruned.is_complete)

    async def _prune(self) -> None:
        await self.prune()
