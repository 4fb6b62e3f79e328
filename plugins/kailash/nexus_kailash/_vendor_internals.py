"""All access to Kailash's internals: private names, and names of its modules that are replaced. Fits Kailash 2.65.

What is replaced is one for the whole process. Each function here may be called again: the second call changes nothing.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import sys
import types
from typing import TYPE_CHECKING, Any

from kailash.nodes import base_async  # type: ignore[import-untyped]
from kailash.nodes.base import NodeRegistry  # type: ignore[import-untyped]
from kailash.runtime import template_resolver  # type: ignore[import-untyped]
from kailash.runtime.async_local import AsyncExecutionTracker, AsyncLocalRuntime  # type: ignore[import-untyped]
from kailash.sdk_exceptions import NodeConfigurationError  # type: ignore[import-untyped]
from kailash.workflow import cyclic_runner  # type: ignore[import-untyped]

from nexus_core.errors import ConfigurationError
from nexus_kailash.kailash_run import current_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

_MISSING = object()


def workflow_inputs(workflow: Workflow) -> Mapping[str, Mapping[str, str]]:
    """Return what ``WorkflowBuilder.add_workflow_inputs`` has named: kept in a private entry of the metadata."""
    found: Mapping[str, Mapping[str, str]] = workflow.metadata.get("_workflow_inputs", {})
    return found


def has_input_schema(node: Any) -> bool:
    """Whether a node with code was given an input schema, for which there is no public attribute."""
    return bool(getattr(node, "_input_schema", None))


def set_input_schema(node: Any, schema: dict[str, Any]) -> None:
    """Set the declarations that a node checks its inputs against; its constructor alone sets them publicly."""
    node._input_schema = schema


def set_workflow_context(node: Any, context: Any) -> None:
    """Set the mapping behind ``get_workflow_context``. Kailash's runtimes set it likewise, each its own."""
    node._workflow_context = context


def copy_graph(graph: Workflow) -> Workflow:
    """Return a copy with the same nodes, so that its author may go on building the original. Kailash has none."""
    own = copy.copy(graph)
    own.nodes, own._node_instances = dict(graph.nodes), dict(graph._node_instances)
    own.connections = list(graph.connections)
    own.graph = type(graph.graph)()
    for node_id, data in graph.graph.nodes(data=True):
        own.graph.add_node(node_id, **data)
    for source, target, data in graph.graph.edges(data=True):
        own.graph.add_edge(source, target, **data)
    return own


def complete_node_registry(import_node: Callable[[str], bool]) -> None:
    """Let ``NodeRegistry.get`` import the node that is asked for, so that ``WorkflowBuilder.build()`` finds it too.

    Args:
        import_node: Imports the module of a node, and returns whether there is one.
    """
    registered_only = NodeRegistry.get
    if getattr(registered_only, "imports_nodes", False):
        return

    def get(cls: type[NodeRegistry], node_name: str) -> object:
        try:
            return registered_only(node_name)
        except NodeConfigurationError:
            try:
                if not import_node(node_name):
                    raise
            except ConfigurationError as exc:
                raise NodeConfigurationError(str(exc)) from exc
            return registered_only(node_name)

    get.imports_nodes = True  # type: ignore[attr-defined]
    NodeRegistry.get = classmethod(get)


def restrict_placeholders_to_configuration() -> None:
    """Let ``${name}`` mean another input in a node's configuration alone, in runs of Nexus.

    In Kailash 2.65 it is a placeholder wherever it stands: a caller could read what earlier nodes return, possibly a
    secret.
    """
    everywhere = template_resolver.resolve_templates
    if hasattr(everywhere, "__wrapped__"):
        return

    @functools.wraps(everywhere)
    def resolve_templates(obj: Any, inputs: dict[str, Any]) -> Any:
        if not isinstance(obj, dict) or current_run.get() is None:
            return everywhere(obj, inputs)
        return {
            name: _copied(value) if inputs.get(name, _MISSING) is value else everywhere(value, inputs)
            for name, value in obj.items()
        }

    template_resolver.resolve_templates = base_async.resolve_templates = resolve_templates


def _copied(value: Any) -> Any:
    """Return a copy of JSON's containers, as Kailash makes one: a node may change what other nodes receive too."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def disable_resource_monitoring() -> None:
    """Let runs of Nexus do without the thread that Kailash starts for each node, to sample the process's memory."""
    collector = cyclic_runner.MetricsCollector
    if hasattr(collector, "outside_nexus"):
        return

    def collector_of_this_run() -> Any:
        return collector(enable_resource_monitoring=False if current_run.get() is not None else None)

    collector_of_this_run.outside_nexus = collector  # type: ignore[attr-defined]
    cyclic_runner.MetricsCollector = collector_of_this_run


def protect_create_task(node: Any) -> None:
    """Let ``asyncio.create_task`` stay what it is for everybody else, while an ``AsyncPythonCodeNode`` replaces it."""
    module = sys.modules[type(node).__module__]
    if getattr(module, "asyncio", None) is asyncio:
        module.asyncio = _ReadOnlyAsyncio()  # type: ignore[attr-defined]


class _ReadOnlyAsyncio(types.ModuleType):
    """The module ``asyncio``, whose attributes can't be set: setting one has no effect."""

    def __init__(self) -> None:
        super().__init__("asyncio", asyncio.__doc__)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Ignore it."""


class CycleExecutor(cyclic_runner.CyclicWorkflowExecutor):  # type: ignore[misc]
    """Kailash's executor, with its execution plan made public, and its stages in an order that has all of them.

    Kailash 2.65 silently leaves out a cycle behind a node that follows another cycle, and runs the successors of such a
    node before it.
    """

    def _create_execution_plan(
        self, workflow: Workflow, dag_edges: list[Any], cycle_groups: dict[str, list[Any]]
    ) -> Any:
        plan = super()._create_execution_plan(workflow, dag_edges, cycle_groups)
        plan.stages = _stages(workflow, list(plan.cycle_groups.values())) or plan.stages
        return plan

    def cycle_groups(self, workflow: Workflow) -> list[Any]:
        """Return the groups of nodes that are in cycles together."""
        edges, _ = workflow.separate_dag_and_cycle_edges()
        plan = self._create_execution_plan(workflow, list(edges), workflow.get_cycle_groups())
        return list(plan.cycle_groups.values())


def _stages(workflow: Workflow, groups: list[Any]) -> list[Any]:
    """Return the stages in an order in which each has what it needs; none where cycles depend on each other."""
    group_of: dict[str, Any] = {}
    for group in groups:
        if not group.nodes & group_of.keys():  # a nested one runs with the one around it
            group_of |= dict.fromkeys(group.nodes, group)
    needs: dict[str, set[str]] = {node: set() for node in workflow.nodes}
    for source, target, _ in workflow.separate_dag_and_cycle_edges()[0]:
        if group_of.get(source) is not group_of.get(target) or source not in group_of:
            for node in group_of[target].nodes if target in group_of else (target,):
                needs[node].add(source)
    stages: list[Any] = []
    waiting = list(workflow.get_execution_order())
    while waiting:
        node = next((node for node in waiting if not needs[node] & set(waiting)), None)
        if node is None:
            return []
        group = group_of.get(node)
        stages.append(cyclic_runner.ExecutionStage(bool(group), [] if group else [node], group))
        waiting = [each for each in waiting if each not in (group.nodes if group else {node})]
    return stages


class OverridableRuntime(AsyncLocalRuntime):  # type: ignore[misc]
    """Kailash's async runtime, with the private methods that Nexus overrides or calls under public names."""

    async def run_nodes(self, workflow: Workflow, tracker: Any, context: Any) -> None:
        """Run every node and record its outputs in the tracker."""
        raise NotImplementedError

    async def run_in_thread(self, node: Any, inputs: dict[str, Any]) -> Any:
        """Run a sync node in a thread and return its outputs."""
        raise NotImplementedError

    async def inputs_of(self, workflow: Workflow, node_id: str, tracker: Any, context: Any) -> dict[str, Any]:
        """Return the inputs of a node."""
        raise NotImplementedError

    def node_finished(self, node_id: str) -> None:
        """Report that a node has finished."""
        raise NotImplementedError

    async def run_async_node(self, workflow: Workflow, node_id: str, tracker: Any, context: Any) -> None:
        """Run an async node, as Kailash does."""
        await self._execute_node_async(workflow, node_id, tracker, context)

    async def run_sync_node(self, workflow: Workflow, node_id: str, tracker: Any, context: Any) -> None:
        """Run a sync node, as Kailash does, by `run_in_thread`."""
        await self._execute_sync_node_async(workflow, node_id, tracker, context)

    def broken_contracts(
        self, workflow: Workflow, node_id: str, inputs: dict[str, Any], outputs: dict[str, dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the contracts of connections to a node that its inputs break."""
        broken: list[dict[str, Any]] = self._validate_connection_contracts(workflow, node_id, inputs, outputs)
        return broken

    async def _execute_workflow_internal(
        self, workflow: Workflow, inputs: dict[str, Any], context: Any, run_id: str
    ) -> dict[str, Any]:
        tracker = AsyncExecutionTracker(workflow, context)
        await self.run_nodes(workflow, tracker, context)
        results: dict[str, Any] = tracker.get_result()
        return results

    async def _execute_sync_node_in_thread(self, node_instance: Any, inputs: dict[str, Any]) -> Any:
        return await self.run_in_thread(node_instance, inputs)

    async def _prepare_async_node_inputs(
        self, workflow: Workflow, node_id: str, tracker: Any, context: Any
    ) -> dict[str, Any]:
        return await self.inputs_of(workflow, node_id, tracker, context)

    async def _w1_emit_node_completion(self, *, node_id: str, **_: Any) -> None:
        self.node_finished(node_id)
