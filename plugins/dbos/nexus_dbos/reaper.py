"""`Reaper`: gives the runs of processes that have died to living ones."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_dbos.locks import Locks
    from nexus_dbos.rows import Rows
    from nexus_dbos.workers import Workers

PERIOD_SECONDS = 1.0
"""Pause between two looks for processes that have died."""

GRACE_SECONDS = 3.0
"""After an outage of the database, the time others have to lock again before they count as dead."""

RECONNECT_SECONDS = 0.3
"""Pause between two tries to lock again after an outage."""

logger = logging.getLogger(__name__)


class Reaper:
    """Holds the lock of this process, and looks every second for runs of processes whose lock is free.

    Args:
        executor: This process.
        rows: The runs.
        locks: The locks of processes.
        workers: The table of processes that work.
        look: Called at each look, before it.

    Attributes:
        taken_over: How many runs it has taken from processes that had died.
    """

    def __init__(
        self, executor: str, rows: Rows, locks: Locks, workers: Workers, look: Callable[[], None]
    ) -> None:  # fmt: skip
        self.taken_over = 0
        self._executor, self._rows, self._locks = executor, rows, locks
        self._workers, self._also = workers, look
        self._stopping = threading.Event()
        self._grace_ends = 0.0
        self._thread = threading.Thread(target=self._run, name="nexus-dbos-reaper", daemon=True)

    def begin(self) -> None:
        """Lock, and begin to look. What the database raises is raised.

        To be called before any run is worked on: a run whose process holds no lock is taken from it.
        """
        self._locks.hold(self._executor)
        self._also()
        self._thread.start()

    def stop(self) -> None:
        """Stop looking, and let go of the lock: what this process has not ended is for others."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            self._workers.remove(self._executor)
            self._locks.release()
        except Exception:
            logger.warning("the lock of this process was not released", exc_info=True)

    def _run(self) -> None:
        pause, is_lost = PERIOD_SECONDS, False
        while not self._stopping.wait(pause):
            try:
                if is_lost:
                    self._locks.hold(self._executor)
                    self._grace_ends = time.monotonic() + GRACE_SECONDS
                    is_lost = False
                self._look()
                pause = PERIOD_SECONDS
            except Exception as exc:
                if not is_lost:
                    logger.warning("can't look for processes that have died: %s", type(exc).__name__)
                is_lost, pause = True, RECONNECT_SECONDS

    def _look(self) -> None:
        self._also()
        others = {*self._rows.executors(), *self._workers.executors()} - {self._executor}
        # A process that has just started has seen no outage, but the others may not have locked again since.
        if not others or time.monotonic() < self._grace_ends or self._locks.are_lost_since(GRACE_SECONDS):
            return
        for other in others:
            if not self._locks.take(other):
                continue
            try:
                taken = self._rows.queue_again(other)
                self._workers.remove(other)
            finally:
                self._locks.give_back(other)
            self.taken_over += taken
            logger.warning("took over %d durable runs of a process that has died", taken)
