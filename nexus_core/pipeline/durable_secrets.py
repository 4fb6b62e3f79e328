"""`DurableSecrets`: refuses durable workflows that take secrets which the engine would store as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.errors import ConfigurationError, NexusError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core.runs.engine import RunEngine
    from nexus_core.runs.store import RunStore
    from nexus_core.workflows.workflow import Workflow


class DurableSecrets:
    """Knows which durable workflows take secrets that would be stored in the clear.

    A parameter is secret where its type or the metadata ``sensitive_parameters`` say so: the run store leaves out the
    same ones. An engine needs them, since the process that does the work has nothing else.

    Args:
        engine: Stores the parameters of durable runs.
        store: Knows which parameters are secret.
        is_allowed: Whether secrets may be stored in the clear.
    """

    def __init__(self, engine: RunEngine, store: RunStore, *, is_allowed: bool) -> None:
        self._engine = engine
        self._names = None if is_allowed or engine.hides_tasks else store.secret_names

    def check(self, workflows: Iterable[Workflow]) -> None:
        """Check durable workflows at the start.

        Raises:
            ConfigurationError: One would have its secrets stored in the clear.
        """
        for workflow in workflows:
            if (problem := self._problem(workflow)) is not None:
                raise ConfigurationError(problem)

    def refuse(self, workflow: Workflow) -> None:
        """Refuse the call of a durable workflow that was registered after the start, if `check` would not pass.

        Raises:
            NexusError: It would not.
        """
        if (problem := self._problem(workflow)) is not None:
            raise NexusError(problem)

    def _problem(self, workflow: Workflow) -> str | None:
        names = frozenset[str]() if self._names is None else self._names(workflow)
        if not names and "" not in names:  # names that can't be listed: all are in them
            return None
        what = f'the parameter "{min(names)}"' if names else "parameters"
        option = self._engine.encryption_option
        cure = "" if option is None else f"set {option}, or "
        return (
            f'The durable workflow "{workflow.name}" takes {what} as a secret, which the run engine '
            f"{self._engine.name} would store in the clear: {cure}allow that with durable_plain_secrets."
        )
