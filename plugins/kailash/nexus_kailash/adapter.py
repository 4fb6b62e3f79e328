"""`KailashAdapter`: makes Nexus workflows of Kailash's. Importing this module imports nothing of Kailash."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core import Workflow
    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_kailash.runtime import Runtime
    from nexus_kailash.runtime_arguments import RuntimeArguments

from nexus_kailash.runtime_arguments import WithRuntime

_BUILDER = ("kailash.workflow.builder", "WorkflowBuilder")
_WORKFLOW = ("kailash.workflow.graph", "Workflow")


class KailashAdapter:
    """Adapts ``WorkflowBuilder`` and ``Workflow``. Workflows with the same runtime arguments share a Kailash runtime.

    Args:
        threads: Where sync nodes run.
    """

    name = "Kailash workflows"

    def __init__(self, threads: DaemonThreads) -> None:
        self._threads = threads
        self._runtimes: dict[tuple[str, int, int], Runtime] = {}
        _complete_node_registry()

    def adapts(self, target: object) -> bool:
        """Whether the object is a builder or a workflow of Kailash's, or of a class derived from them."""
        if isinstance(target, WithRuntime):
            target = target.target
        return bool(_class_names(target) & {_BUILDER, _WORKFLOW})

    def adapt(self, name: str, target: Any, metadata: Mapping[str, Any]) -> Workflow:
        """Build the workflow if need be, check it, and return it in Nexus's shape.

        Raises:
            ConfigurationError: A node is unknown or can't be imported, its configuration is wrong, a connection
                leads nowhere, or ``expected_parameters`` does not fit. The message names the node.
        """
        from nexus_kailash.registration import build_workflow, check_workflow
        from nexus_kailash.workflow import KailashWorkflow

        _lower_log_level()
        _complete_node_registry()
        if not isinstance(target, WithRuntime):
            target = WithRuntime(target)
        target, arguments = target.target, target.arguments
        workflow = build_workflow(name, target) if _BUILDER in _class_names(target) else target
        check_workflow(name, workflow)
        return KailashWorkflow(name, workflow, metadata, self._runtime(arguments))

    def _runtime(self, arguments: RuntimeArguments) -> Runtime:
        from nexus_kailash.runtime import Runtime

        key = (arguments.connection_validation, id(arguments.secret_provider), id(arguments.resource_registry))
        if key not in self._runtimes:  # it holds what the ids are of
            self._runtimes[key] = Runtime(self._threads, arguments)
        return self._runtimes[key]

    async def close(self) -> None:
        """Close the runtimes. The next run of a workflow opens its runtime again."""
        for runtime in self._runtimes.values():
            await runtime.close()


def _class_names(target: object) -> set[tuple[str, str]]:
    return {(cls.__module__, cls.__qualname__) for cls in type(target).__mro__}


def _complete_node_registry() -> None:
    """Let Kailash find every node of its library by name, once Kailash has been imported by somebody."""
    if "kailash.nodes.base" in sys.modules:
        from nexus_kailash._vendor_internals import complete_node_registry
        from nexus_kailash.library import import_node

        complete_node_registry(import_node)


def _lower_log_level() -> None:
    """Keep Kailash's running commentary out of the log, unless the user has set a level for it."""
    logger = logging.getLogger("kailash")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
