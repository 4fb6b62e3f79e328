"""`LocalQuestions`: the questions of the runs of one process. `QuestionStore`: what reads and closes questions."""

from __future__ import annotations

from heapq import nsmallest
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from nexus_core.runs.question import PERMISSION, QuestionClosing, QuestionStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.runs.question import QuestionFilter, RunQuestion


class QuestionStore(Protocol):
    """Where questions are kept. A `RunStore` is one."""

    async def question(self, run_id: str, number: int) -> RunQuestion | None:
        """Return a question, or None."""

    async def questions(self, wanted: QuestionFilter) -> list[RunQuestion]:
        """Return the questions that a filter shows, oldest first."""

    async def close_question(self, run_id: str, number: int, closing: QuestionClosing) -> bool:
        """Close a question. Returns whether it is closed so: False where another closing was first, or it came late.

        Repeating a closing has no further effect.
        """

    async def asked_permissions(self) -> list[str]:
        """Return the audiences of open questions to who has a permission, each once."""

    def watch(self, run_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a function, on the event loop, soon after a question of a run was closed; it may be called without.

        Returns the function that ends it.
        """


class LocalQuestions:
    """A `QuestionStore` in memory."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[int, RunQuestion]] = {}
        self._open: dict[str, set[int]] = {}
        self._watchers: dict[str, set[Callable[[], None]]] = {}

    def add(self, question: RunQuestion) -> bool:
        """Keep a question, if its number is above those of its run. Returns whether it is."""
        of_run = self._runs.setdefault(question.run_id, {})
        if question.number <= max(of_run, default=0):
            return False
        of_run[question.number] = question
        if question.is_open:
            self._open.setdefault(question.run_id, set()).add(question.number)
        return True

    def withdraw(self, run_id: str, at: float) -> None:
        """Close what a run still asks when it ends."""
        for number in [*self._open.get(run_id, ())]:
            self._close(run_id, number, QuestionClosing(QuestionStatus.WITHDRAWN, at))

    def forget(self, run_id: str) -> None:
        """Drop the questions of a run that is no longer kept."""
        self._runs.pop(run_id, None)
        self._open.pop(run_id, None)

    async def question(self, run_id: str, number: int) -> RunQuestion | None:
        """See `QuestionStore.question`."""
        return self._runs.get(run_id, {}).get(number)

    async def questions(self, wanted: QuestionFilter) -> list[RunQuestion]:
        """See `QuestionStore.questions`."""
        if wanted.is_open:
            every = (self._runs[run_id][number] for run_id, numbers in self._open.items() for number in numbers)
        else:
            every = (question for of_run in self._runs.values() for question in of_run.values())
        if wanted.run_id is not None:
            every = (question for question in self._runs.get(wanted.run_id, {}).values())
        return nsmallest(wanted.limit, filter(wanted.matches, every), key=attrgetter("cursor"))

    async def close_question(self, run_id: str, number: int, closing: QuestionClosing) -> bool:
        """See `QuestionStore.close_question`."""
        question = self._runs.get(run_id, {}).get(number)
        if question is None:
            return False
        if not question.takes(closing):
            return question.is_closed_by(closing)
        self._close(run_id, number, closing)
        return True

    def _close(self, run_id: str, number: int, closing: QuestionClosing) -> None:
        self._runs[run_id][number] = self._runs[run_id][number].closed(closing)
        numbers = self._open[run_id]
        numbers.discard(number)
        if not numbers:
            del self._open[run_id]
        for listener in [*self._watchers.get(run_id, ())]:
            listener()

    async def asked_permissions(self) -> list[str]:
        """See `QuestionStore.asked_permissions`."""
        every = (self._runs[run_id][number].audience for run_id, numbers in self._open.items() for number in numbers)
        return sorted({audience for audience in every if audience.startswith(PERMISSION)})

    def watch(self, run_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """See `QuestionStore.watch`."""
        self._watchers.setdefault(run_id, set()).add(listener)
        return lambda: self._unwatch(run_id, listener)

    def _unwatch(self, run_id: str, listener: Callable[[], None]) -> None:
        watchers = self._watchers.get(run_id, set())
        watchers.discard(listener)
        if not watchers:
            self._watchers.pop(run_id, None)
