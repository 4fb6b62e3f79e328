"""`RunEngine`: does the work of durable runs, in this process or in another one, and again where a process has died."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol


class Journal(Protocol):
    """What one durable run has done so far, for the process that works on it."""

    @property
    def attempt(self) -> int:
        """Which attempt at the run this is, from 1."""

    async def once(self, name: str, call: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return what is recorded at this place of the run; where nothing is, what ``call`` returns, once recorded.

        Each attempt at a run calls this for the same names in the same order, as far as the attempt before came. It is
        called on the platform's event loop, and calls ``call`` there. An exception of ``call`` is raised, and is not
        recorded: what is recorded are outcomes that shall not change, and a caller may record a failure as one.

        Args:
            name: What is done.
            call: Does it, and returns the outcome as JSON text.

        Raises:
            JournalMismatch: Another name is recorded at this place: the workflow's code has changed.
        """


class JournalMismatch(Exception):
    """The code of a workflow has changed while a run of it was at work: it does not do the same again.

    Attributes:
        place: The place in the journal, from 1.
        recorded: The name that is recorded there.
        asked: The name that the code has there.
    """

    def __init__(self, place: int, recorded: str, asked: str) -> None:
        super().__init__(f"step {place} is {asked!r}, and was {recorded!r} when the run began")
        self.place, self.recorded, self.asked = place, recorded, asked


class StepFailed(Exception):
    """A step of a durable run has failed with an exception that can't be made again from its record.

    Attributes:
        name: The name of its class.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if message else name)
        self.name = name


Perform = Callable[[str, bytes, Journal], Awaitable[None]]
"""Does the work of a run: ``perform(run_id, task, journal)``, called on the platform's event loop.

When it returns, the run has ended, and its outcome is in the run store. When it raises or is cancelled, the run is to
be worked on again: by another process, or by this one after its next start.
"""


class RunEngine(ABC):
    """Starts the work of durable runs, and does it where it may. A run is started once, even if that is asked twice.

    All methods are called on the platform's event loop. They raise `BackendUnavailable` where the engine's database
    does not answer.

    Attributes:
        name: What the option ``run_engine`` calls it.
    """

    name: str

    @abstractmethod
    async def open(self, executor: str, perform: Perform | None) -> None:
        """Open the engine for this process, and begin to work where ``perform`` is given.

        Args:
            executor: Id of this process: a new one at each start, never used before.
            perform: Does the work of a run. None where this process takes calls and does no work.

        Raises:
            ConfigurationError: The engine can't be used as it is.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop working within a few seconds, and close. Runs at work are cancelled here and go on elsewhere."""

    @abstractmethod
    async def start(self, run_id: str, task: bytes) -> None:
        """Start a run: when this returns, the work will be done, whatever process dies.

        Args:
            run_id: The run. One that is known is not started again.
            task: What ``perform`` gets, as JSON text.
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

    def statistics(self) -> dict[str, float]:
        """Return numbers for metrics: ``queued``, ``working``, ``taken_over``."""
        return {}
