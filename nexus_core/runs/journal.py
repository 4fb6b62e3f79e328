"""`Journal`: what one durable run has done so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


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
