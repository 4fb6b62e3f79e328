"""`StepLog`: the steps of one run, in the process that works on it."""

from __future__ import annotations

import threading
import time

from nexus_core.runs.record import RunStep

STEPS_KEPT = 500
"""How many steps of a run are kept in memory: the latest ones."""

STEP_BYTES = 500
"""What a step costs in memory, about: for `RunHistory`'s bound."""


class StepLog:
    """The latest steps of one run. Every method may be called from any thread.

    Args:
        before: How many steps the run had in other processes.

    Attributes:
        cut_off: The steps that had not ended when the run did.
    """

    __slots__ = ("_count", "_is_closed", "_kept", "_lock", "_told", "_unfinished", "cut_off")

    def __init__(self, before: int = 0) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, RunStep] = {}
        self._unfinished: dict[int, RunStep] = {}
        self._count = before
        self._is_closed = self._told = False
        self.cut_off: tuple[RunStep, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every step is still there."""
        return len(self._kept) == self._count

    @property
    def size(self) -> int:
        """About how many bytes `forget` would free."""
        return len(self._kept) * STEP_BYTES

    def begin(self, name: str, attempt: int) -> RunStep | None:
        """Note that an attempt at a step begins. Returns None when the run has ended."""
        with self._lock:
            if self._is_closed:
                return None
            self._count = number = self._count + 1
            step = RunStep(number, name, attempt, time.time())
            self._kept[number] = self._unfinished[number] = step
            if number > STEPS_KEPT:
                self._kept.pop(number - STEPS_KEPT, None)
        return step

    def end(self, step: RunStep, outcome: str, size: int, error: str | None) -> RunStep | None:
        """Note how it ended, and return it. Returns None when the run had ended before."""
        with self._lock:
            if self._unfinished.pop(step.number, None) is None:
                return None
            ended = RunStep(step.number, step.name, step.attempt, step.began_at, time.time(), outcome, size, error)
            if step.number in self._kept:
                self._kept[step.number] = ended
        return ended

    def close(self, ended_at: float) -> None:
        """Note that the run has ended: its steps have ended with it, whatever a thread still does."""
        with self._lock:
            self._is_closed = True
            self.cut_off = tuple(
                RunStep(step.number, step.name, step.attempt, step.began_at, ended_at, "cancelled")
                for step in self._unfinished.values()
            )
            self._unfinished = {}
            self._kept.update((step.number, step) for step in self.cut_off if step.number in self._kept)

    def after(self, number: int, limit: int) -> list[RunStep]:
        """Return steps with numbers above ``number``, in order."""
        with self._lock:
            found = [step for step in self._kept.values() if step.number > number]
        return found[:limit]

    def forget(self) -> None:
        """Drop the steps."""
        with self._lock:
            self._kept = {}

    def tell_cancelled(self) -> bool:
        """Whether the code of the run is yet to be told that it was cancelled. It is so once."""
        with self._lock:
            told, self._told = self._told, True
        return not told
