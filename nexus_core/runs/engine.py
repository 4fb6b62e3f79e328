"""`RunEngine`: does the work of durable runs, in this process or in another one, and again where a process has died."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nexus_core.runs.work import Beginning, Work, Worker, WorkPosition


class RunEngine(ABC):
    """Starts the work of durable runs, and does it where it may. A run is started once, even if that is asked twice.

    All methods are called on the platform's event loop. They raise `BackendUnavailable` where the engine's database
    does not answer.

    Attributes:
        name: What the option ``run_engine`` calls it.
        hides_tasks: Whether tasks and outcomes are encrypted where it stores them.
        encryption_option: The option with which it encrypts them; None where it has none.
    """

    name: str
    hides_tasks: bool = False
    encryption_option: str | None = None

    @abstractmethod
    async def open(self, executor: str, worker: Worker | None) -> None:
        """Open the engine for this process, and begin to work where ``worker`` is given.

        Args:
            executor: Id of this process: a new one at each start, never used before.
            worker: How this process works. None where it takes calls and does no work.

        Raises:
            ConfigurationError: The engine can't be used as it is.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop working within a few seconds, and close. Runs at work are cancelled here and go on elsewhere."""

    @abstractmethod
    async def start(self, work: Work, beginning: Beginning | None = None) -> None:
        """Start a run: when this returns, the work will be done, whatever process dies.

        Args:
            work: The work. Of a run that is known it is not started again.
            beginning: The outcomes that its journal begins with; None: it is empty.
        """

    @abstractmethod
    async def cancel(self, run_id: str) -> None:
        """End a run that was cancelled: its work does not begin again. Work in progress is cancelled already."""

    @abstractmethod
    async def known(self, run_ids: Sequence[str]) -> set[str]:
        """Return the ids among these of runs that were started."""

    @abstractmethod
    async def check(self) -> dict[str, Any]:
        """Return details for the health check of the engine.

        Raises:
            BackendUnavailable: It does not work; the message is for operators.
        """

    # ---- what an engine may do without: its runs can't be repeated then, and wait unseen

    async def task(self, run_id: str) -> bytes | None:
        """Return the task of a run that was started, whether it has ended or not; None if it is not known."""
        return None

    async def places(self, run_id: str) -> list[str]:
        """Return the names that are recorded in the journal of a run, in order."""
        return []

    async def position(self, run_id: str) -> WorkPosition | None:
        """Return where work stands that has not begun; None for other work."""
        return None

    async def unserved(self) -> Mapping[str, int]:
        """Return how many runs wait that no living process can work on, by the names of their workflows."""
        return {}

    async def ended(self, before: float, limit: int) -> list[str]:
        """Return ids of runs that have ended, of workflows that this process works on.

        Each call goes on where the one before has stopped. A page that is not full is the last one: the next call
        begins again with the runs that ended first.

        Args:
            before: Only runs that ended before this time, in seconds since the epoch.
            limit: How many at most.
        """
        return []

    async def forget(self, run_ids: Sequence[str]) -> None:
        """Remove what is kept of runs that have ended. Others are left alone."""
        return

    def statistics(self) -> dict[str, float]:
        """Return numbers for metrics.

        All engines may count ``queued``, ``working``, ``taken_over``, ``oldest_seconds`` (how long the
        first of the queued ones has waited), ``workers`` (living processes that work) and ``unserved``.
        """
        return {}
