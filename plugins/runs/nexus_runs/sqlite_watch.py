"""`FilePoller`: detects what other processes write to an SQLite file.

SQLite notifies no other process of a commit. But it counts commits, and a connection reads that number from memory that
the processes share: polling forty times a second costs next to nothing, and only after a commit a query follows. It
polls only while a run has followers, or while a run of this process may be cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from nexus_core.errors import BackendUnavailable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Sequence

    from nexus_runs.watchers import Watchers

log = logging.getLogger(__name__)

POLL_SECONDS = 0.025
"""Pause between two looks."""

AWAY_SECONDS = 0.5
"""Pause after a failure."""

QUERIED = 500
"""Runs in one query."""

CANCELS = "SELECT id FROM runs WHERE executor = ? AND cancel_at IS NOT NULL AND finished_at IS NULL"


class Seen(NamedTuple):
    """What a check has found.

    Attributes:
        changed: Watched runs that have changed.
        cancelled: Runs of this process that are to be cancelled.
    """

    changed: list[str]
    cancelled: list[str]


class FileLook:
    """Checks the file for changes, in the thread of a connection, and stores what it has seen.

    Args:
        executor: Id of this process.
    """

    def __init__(self, executor: str) -> None:
        self._executor = executor
        self._connection: sqlite3.Connection | None = None
        self._version = -1
        self._states: dict[str, tuple[object, ...]] = {}

    def __call__(self, connection: sqlite3.Connection, runs: Sequence[str], is_fresh: bool) -> Seen | None:
        """Return what is new, or None.

        Args:
            connection: The connection.
            runs: The watched runs.
            is_fresh: Whether some of them were not looked at yet.
        """
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if (connection, version) == (self._connection, self._version) and not is_fresh:
            return None
        self._connection, self._version = connection, version
        states: dict[str, tuple[object, ...]] = {}
        for begin in range(0, len(runs), QUERIED):
            some = runs[begin : begin + QUERIED]
            marks = ", ".join("?" * len(some))
            query = f"SELECT id, last_event, status, cancel_at, closings FROM runs WHERE id IN ({marks})"
            states |= {run_id: tuple(state) for run_id, *state in connection.execute(query, some)}
        changed = [
            run_id for run_id in runs if run_id not in self._states or states.get(run_id) != self._states[run_id]
        ]
        self._states = {run_id: states.get(run_id, ()) for run_id in runs}
        return Seen(changed, [run_id for (run_id,) in connection.execute(CANCELS, (self._executor,))])


class FilePoller:
    """Polls the file while it has to, and notifies the watchers.

    Args:
        watchers: Who waits for changes.
        look: Checks once; see `FileLook`.
    """

    def __init__(self, watchers: Watchers, look: Callable[[Sequence[str], bool], Awaitable[Seen | None]]) -> None:
        self._watchers = watchers
        self._look = look
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Start polling, if there is a reason."""
        if (self._task is None or self._task.done()) and self._has_reason():
            self._task = asyncio.get_running_loop().create_task(self._poll(), name="nexus-runs-poller")

    def _has_reason(self) -> bool:
        return bool(self._watchers.runs) or self._watchers.awaits_cancels

    async def close(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _poll(self) -> None:
        told: set[str] = set()
        while self._has_reason():
            watchers = self._watchers
            runs, fresh = watchers.runs, {*watchers.fresh}
            watchers.fresh -= fresh
            try:
                seen = await self._look(runs, bool(fresh))
            except BackendUnavailable:
                watchers.fresh |= {*watchers.runs}
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if seen is not None:
                watchers.notify(seen.changed)
                watchers.cancel(run_id for run_id in seen.cancelled if run_id not in told)
                told = {*seen.cancelled}
            await asyncio.sleep(POLL_SECONDS)
