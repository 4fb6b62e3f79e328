"""`Watchers`: who waits for changes of which runs in this process, and for cancellations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.runs.status import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nexus_core.runs.record import RunChange, Written


class Watchers:
    """Listeners by run, the listeners to cancellations, and the runs of this process that go on.

    Args:
        changed: Is called when there are new ones.

    Attributes:
        active: The runs that this process has begun and not ended.
        fresh: Watched runs that were not checked since their first listener came.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._runs: dict[str, set[Callable[[], None]]] = {}
        self._cancels: set[Callable[[str], None]] = set()
        self.active: set[str] = set()
        self.fresh: set[str] = set()

    @property
    def runs(self) -> list[str]:
        """The runs that are watched."""
        return [*self._runs]

    @property
    def awaits_cancels(self) -> bool:
        """Whether a cancellation may come and has listeners."""
        return bool(self._cancels and self.active)

    def watch(self, run_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """See `RunStore.watch`."""
        self._runs.setdefault(run_id, set()).add(listener)
        self.fresh.add(run_id)
        self._changed()
        return lambda: self._unwatch(run_id, listener)

    def _unwatch(self, run_id: str, listener: Callable[[], None]) -> None:
        listeners = self._runs.get(run_id, set())
        listeners.discard(listener)
        if not listeners:
            self._runs.pop(run_id, None)
            self.fresh.discard(run_id)

    def on_cancel(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See `RunStore.on_cancel`."""
        self._cancels.add(listener)
        self._changed()
        return lambda: self._cancels.discard(listener)

    def applied(self, executor: str, changes: Sequence[RunChange], written: Sequence[Written]) -> None:
        """Note what this process has written, and notify the listeners."""
        for change, each in zip(changes, written, strict=True):
            if change.is_whole:
                continue  # it has ended before it was known
            if change.record is not None and each.is_applied and change.record.executor == executor:
                self.active.add(change.run_id)
            if change.status in ENDED or not each.is_applied:
                self.active.discard(change.run_id)
        if self._runs:
            self.notify({change.run_id for change in changes})
        if self.active:
            self._changed()

    def taken(self, run_id: str, *, is_taken: bool) -> None:
        """Note that this process works on a run from now on, if it could be taken."""
        if is_taken:
            self.active.add(run_id)
            self.notify([run_id])
            self._changed()

    def notify(self, run_ids: Iterable[str]) -> None:
        """Notify the listeners of runs of a change."""
        for run_id in run_ids:
            for listener in [*self._runs.get(run_id, ())]:
                listener()

    def notify_all(self) -> None:
        """Notify every listener, after changes may have been missed."""
        self.notify(self.runs)

    def cancel(self, run_ids: Iterable[str]) -> None:
        """Notify the listeners to cancellations."""
        for run_id in run_ids:
            for listener in [*self._cancels]:
                listener(run_id)
