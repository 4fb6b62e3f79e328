"""`PlannedSchedule`: a declared schedule that was checked, with its counts in this process."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nexus_core.errors import ConfigurationError, NexusError
from nexus_core.types.principal import Principal
from nexus_schedules.times import Times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core import Platform
    from nexus_core.workflows.schedule import Schedule


@dataclass(eq=False)
class PlannedSchedule:
    """A schedule whose times can be computed and whose workflow exists.

    Attributes:
        name: Its name.
        workflow: The name of its workflow.
        declared: What the application has declared.
        times: When it is due.
        counts: What this process has done: ``started``, ``skipped``, ``missed`` and ``failed``.
        due_at: When it has to be looked at next; 0 before its state was read.
        error: Why the last run could not be started here; empty otherwise.
    """

    name: str
    workflow: str
    declared: Schedule
    times: Times
    counts: Counter[str] = field(default_factory=Counter)
    due_at: float = 0.0
    error: str = ""

    def principal(self) -> Principal:
        """Return who its runs belong to where authentication is on."""
        return Principal(f"schedule:{self.name}", self.declared.permissions)

    def run_id(self, due: float) -> str:
        """Return the id of the run for a time: the same in every process."""
        digest = hashlib.sha256(f"{self.name}\0{self.workflow}\0{due:.0f}".encode()).hexdigest()
        return f"{int(due * 1000):012x}{digest[:20]}"


def checked(platform: Platform) -> list[PlannedSchedule]:
    """Return the declared schedules.

    Raises:
        ConfigurationError: One is wrong; the message names it and the problem.
    """
    found: dict[str, PlannedSchedule] = {}
    for declared in platform.schedules:
        workflow = declared.workflow_name(platform.workflows)
        name = declared.given_name or workflow
        if name in found:
            raise ConfigurationError(f'There are two schedules "{name}": name one of them, with name="...".')
        try:
            times = Times(declared.expression, declared.timezone)
            platform.workflows.get(workflow).prepare(dict(declared.params))
        except (ConfigurationError, NexusError) as exc:
            raise ConfigurationError(f'The schedule "{name}": {_reason(exc)}') from None
        found[name] = PlannedSchedule(name, workflow, declared, times)
    return list(found.values())


def _reason(exc: Exception) -> str:
    if isinstance(exc, NexusError):
        return f"its params do not fit the workflow: {exc.message} {exc.details or ''}".strip()
    return str(exc)


def named(schedules: Sequence[PlannedSchedule], name: str) -> PlannedSchedule | None:
    """Return the schedule of a name, or None."""
    return next((each for each in schedules if each.name == name), None)
