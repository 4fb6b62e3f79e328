"""`KailashRun`: what nodes and Kailash's runtimes need of the Nexus run that they work for."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core import Context


@dataclass(slots=True)
class KailashRun:
    """One run of a Kailash workflow.

    Attributes:
        context: The Nexus context of the run.
        levels: The nodes by level: those of one level depend on earlier levels only. None if the workflow has cycles.
        done: Number of finished nodes.
        workflow_context: Values stored with ``set_workflow_context``.
    """

    context: Context
    levels: Sequence[Sequence[str]] | None
    done: int = 0
    workflow_context: dict[str, Any] = field(default_factory=dict)


current_run: ContextVar[KailashRun | None] = ContextVar("nexus_kailash_run", default=None)
"""The run that the running code is part of, in its tasks and threads too."""


class RunScopedContext(dict[str, Any]):
    """What ``set_workflow_context`` stores: values of the current run, shared by all of its nodes.

    A node is one object for all runs of its workflow. In Kailash 2.65 what it stores would stay there for the next
    caller. Outside of Nexus runs it is a plain dictionary.
    """

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value of the current run."""
        run = current_run.get()
        return super().get(key, default) if run is None else run.workflow_context.get(key, default)

    def __setitem__(self, key: str, value: Any) -> None:
        run = current_run.get()
        if run is None:
            super().__setitem__(key, value)
        else:
            run.workflow_context[key] = value
