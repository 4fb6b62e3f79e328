"""A run on a terminal: a progress bar on stderr, streamed items on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.events.event import WORKFLOW_EVENT, WORKFLOW_OUTPUT, WORKFLOW_PROGRESS
from nexus_core.text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

    from nexus_cli.terminal.output import Output


class RunProgress:
    """Shows a run's events. As a context manager, it removes the bar before other output."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self.items = 0

    def __enter__(self) -> RunProgress:
        """Show nothing until the first event."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Show one event."""
        data = event.get("data") or {}
        match event.get("type"):
            case t if t == WORKFLOW_PROGRESS and self._output.lively and self._output.bars:
                self._advance(data)
            case t if t == WORKFLOW_OUTPUT and self._output.pretty:
                self.items += 1
                self.between(lambda: self._output.value(data.get("value"), indent=None))
            case t if t == WORKFLOW_EVENT:
                self.between(lambda: self._output.note(f"{data.get('name')}: {data.get('value')}"))

    def _advance(self, data: dict[str, Any]) -> None:
        if self._progress is None:
            self._progress = _bar(self._output)
            self._task = self._progress.add_task("", total=None)
            self._progress.start()
        if self._task is not None:
            message, total, done = escaped(str(data.get("message") or "")), data.get("total"), data.get("done")
            self._progress.update(self._task, description=message, total=total, completed=done or 0, refresh=True)

    def between(self, write: Callable[[], None]) -> None:
        """Write something, or ask, while the bar is hidden."""
        if self._progress is None:
            write()
            return
        self._progress.stop()
        write()
        self._progress.start()


def _bar(output: Output) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False),
        console=output.console(output.stderr), transient=True,
    )  # fmt: skip
