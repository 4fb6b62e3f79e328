"""`PrunedRuns`: lets a `RunEngine` forget the runs that were removed from the run store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexus_core.runs.engine import RunEngine
    from nexus_core.runs.store import RunStore

LOOK_SECONDS = 60.0
"""Seconds between two looks."""

KEPT_SECONDS = 3600.0
"""Seconds that an engine keeps a run at least after its end."""

PAGE, PAGES = 500, 20
"""Of how many runs a page is, and how many pages one look has while runs of them are gone from the store."""

log = logging.getLogger(__name__)


class PrunedRuns:
    """Checks the ended runs that an engine keeps, a page a minute, again and again.

    So it does not matter which process has removed a run from the store, and how. A run is in the store before it is
    in the engine: one that is not there was removed.

    Args:
        engine: Keeps tasks and outcomes of runs.
        store: Says which runs there are.
    """

    def __init__(self, engine: RunEngine, store: RunStore) -> None:
        self._engine, self._store = engine, store
        self._looked_at = float("-inf")

    async def look(self, now: float) -> None:
        """Look, if it is time.

        Args:
            now: Seconds since the epoch.

        Raises:
            BackendUnavailable: The store or the engine does not answer.
        """
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        forgotten = 0
        for _ in range(PAGES):
            page = await self._engine.ended(now - KEPT_SECONDS, PAGE)
            gone = [run_id for run_id in page if await self._store.get(run_id, payloads=False) is None]
            if gone:
                await self._engine.forget(gone)
                forgotten += len(gone)
            if not gone:
                break
        if forgotten:
            log.info("%d runs that the run store no longer has were removed from the run engine", forgotten)
