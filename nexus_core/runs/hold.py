"""`Hold`: keeps what a run gave for a caller that waits for it."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Held(Protocol):
    """What can be held: a run."""

    followers: int

    def release(self) -> None:
        """Note that one less waits for it."""


Kept = TypeVar("Kept", bound=Held)


class Hold(Generic[Kept]):
    """A caller that waits for a run; see `Run.hold`. It ends with its ``with`` block, or when nothing refers to it."""

    __slots__ = ("_run",)

    def __init__(self, run: Kept) -> None:
        self._run: Kept | None = run
        run.followers += 1

    def __enter__(self) -> Kept:
        """Return the run."""
        assert self._run is not None
        return self._run

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        run, self._run = self._run, None
        if run is not None:
            run.release()

    __del__ = __exit__
