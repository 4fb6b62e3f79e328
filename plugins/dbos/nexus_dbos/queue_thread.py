"""`QueueThread`: takes runs and lets DBOS work on them, as long as this process has room."""

from __future__ import annotations

import logging
import threading
import uuid
from typing import TYPE_CHECKING, Any

from nexus_dbos import _vendor_internals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.runs.work import Worker
    from nexus_dbos.aside import Aside
    from nexus_dbos.claim import Claim
    from nexus_dbos.watch import Watch

FULL_SECONDS = 1.0
"""Pause where this process has no room: what ends ends the pause."""

FAILED_SECONDS = 1.0
"""Pause after the database did not answer."""

TOGETHER_SECONDS = 0.01
"""Pause after a look that took runs, so that what ends meanwhile is replaced by one look."""

SLOWER = 5.0
"""Maximum factor of the pause, while all that waits is at its limits."""

logger = logging.getLogger(__name__)


class QueueThread:
    """Takes runs to work on. It polls the queue, and at once when a run was queued or has ended in this process.

    Args:
        dbos: The launched DBOS.
        worker: How this process works.
        claim: Chooses runs.
        aside: Takes runs that could not begin.
        watch: Notices runs that others have queued.
        poll_seconds: Pause between two looks.
    """

    def __init__(
        self, dbos: Any, worker: Worker, claim: Claim, aside: Aside, watch: Watch, poll_seconds: float
    ) -> None:
        self._dbos, self._worker, self._claim, self._watch = dbos, worker, claim, watch
        self._poll_seconds = poll_seconds
        self._at_work: dict[str, int] = {}
        self._not_begun: dict[str, str] = {}
        self._aside, self._token, self._unsure = aside, "", ""
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="nexus-dbos-queue", daemon=True)

    def begin(self) -> None:
        """Begin to take runs."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more runs."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._watch.close()

    def wake(self) -> None:
        """Poll at once: a run was queued."""
        self._wake.set()

    def attempt(self, run_id: str) -> int:
        """Return which attempt at a run this is, from 1."""
        return max(1, self._at_work.get(run_id, 1))

    def ended(self, run_id: str) -> None:
        """Note that this process no longer works on a run: there is room for another one."""
        self._at_work.pop(run_id, None)
        self.wake()

    def _run(self) -> None:
        pause, is_failing = 0.0, False
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                pause = self._look(pause)
                is_failing = False
            except Exception as exc:
                if not is_failing:
                    logger.warning("can't look for durable runs to work on: %s", type(exc).__name__, exc_info=True)
                is_failing, pause = True, FAILED_SECONDS

    def _look(self, pause: float) -> float:
        """Take the runs that there is room for, and return the pause before the next look."""
        self._put_aside()
        places = self._worker.concurrency - len(self._at_work)
        if places <= 0:
            return FULL_SECONDS
        if not self._watch.waits():
            return self._poll_seconds
        token = str(uuid.uuid4())
        self._unsure = token
        taken = self._claim.take(self._worker.offers(), places, token)
        self._unsure = ""
        if not taken:
            return min(self._poll_seconds * SLOWER, max(pause, self._poll_seconds / 2) * 2)
        self._token = token
        for run_id in taken:
            self._at_work[run_id] = 1
            self._not_begun[run_id] = token
        _vendor_internals.dispatch(self._dbos, taken, token, self._begins, self._fails)
        self._stopping.wait(TOGETHER_SECONDS)
        return FULL_SECONDS if len(taken) == places else self._poll_seconds

    def _begins(self, row: Mapping[str, Any]) -> None:
        self._at_work[row["workflow_uuid"]] = row["recovery_attempts"] or 1
        self._not_begun.pop(row["workflow_uuid"], None)

    def _fails(self, run_id: str, error: Exception) -> None:
        self._not_begun[run_id] = self._token
        logger.error("run %s can't begin", run_id, exc_info=error)

    def _put_aside(self) -> None:
        """Let the runs wait that were taken and did not begin: the database was away, for example."""
        if self._unsure:  # it went away while they were taken: they may be
            self._aside.give_back(self._unsure)
            self._unsure = ""
        for run_id, token in [*self._not_begun.items()]:
            self._aside.put(run_id, token)
            del self._not_begun[run_id]
            self._at_work.pop(run_id, None)
