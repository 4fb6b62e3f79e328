"""`Schedule`: the times at which a workflow is to be started, as the application declares them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nexus_core.errors import ConfigurationError
from nexus_core.workflows.registry import unknown_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.workflows.registry import Registry

Overlap = Literal["skip", "queue", "cancel"]
CatchUp = Literal["last", "all", "none"]

OVERLAPS = ("skip", "queue", "cancel")
CATCH_UPS = ("last", "all", "none")


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """What `Nexus.schedule` was given. A plugin computes the times and starts the runs.

    Attributes:
        expression: The times: five fields of cron, minute, hour, day of month, month and day of week.
        timezone: The name of the zone in which they count.
        overlap: What becomes of a time at which the run before has not ended.
        catch_up: Which of the times are made up for at which no process ran.
        given_name: The schedule's name; None for that of its workflow.
        workflow: The name of the workflow; None where it decorates a function.
        function: The function that it decorates.
        params: The parameters of each run.
        permissions: What its runs may do where authentication is on.
    """

    expression: str
    timezone: str = "UTC"
    overlap: Overlap = "skip"
    catch_up: CatchUp = "last"
    given_name: str | None = None
    workflow: str | None = None
    function: Callable[..., Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    permissions: frozenset[str] = frozenset()

    def workflow_name(self, registry: Registry) -> str:
        """Return the name of the workflow that it starts.

        Raises:
            ConfigurationError: It does not exist, or the function is registered under several names.
        """
        if self.workflow is not None:
            if registry.find(self.workflow) is None:
                raise ConfigurationError(
                    f"nexus.schedule({self.expression!r}): {unknown_workflow(self.workflow, registry.names()).message}"
                )
            return self.workflow
        names = [each.name for each in registry.every() if getattr(each, "function", None) is self.function]
        shown = getattr(self.function, "__name__", "what it decorates")
        if not names:
            raise ConfigurationError(f"@nexus.schedule: {shown} is not a workflow; add @nexus.workflow.")
        if len(names) > 1:
            raise ConfigurationError(
                f"@nexus.schedule: {shown} is registered as {', '.join(names)}; call nexus.schedule(workflow=...)."
            )
        return names[0]
