"""Runs workflows with cycles, on Kailash's own ``CyclicWorkflowExecutor``: its async runtime runs one round of them.

The executor is sync and keeps the state of one run, so each run has one of its own, in a thread. Between two nodes it
looks whether the run is still wanted. Async nodes run on the event loop, where their connections belong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kailash.nodes.base_async import AsyncNode  # type: ignore[import-untyped]
from kailash.workflow import cyclic_runner  # type: ignore[import-untyped]

from nexus_core.errors import ConfigurationError
from nexus_core.types.trace import span
from nexus_kailash.isolation import KeptByRun
from nexus_kailash.runtime import Run, current_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

    from nexus_core.concurrency.threads import DaemonThreads


class RunStopped(Exception):
    """The run is cancelled or over its time limit: its next node is not run."""


class CycleRunner:
    """Runs workflows with cycles.

    Args:
        threads: Where each run has a thread.
        resources: Kailash's ``ResourceRegistry`` for async nodes, or None.
    """

    def __init__(self, threads: DaemonThreads, resources: Any = None) -> None:
        self._threads = threads
        self._resources = resources
        self._kept = KeptByRun()
        _measure_nothing()

    async def run(self, workflow: Workflow, inputs: dict[str, dict[str, Any]], run: Run) -> dict[str, Any]:
        """Run a workflow and return what each node has returned. Each execution of a node is reported as progress.

        Raises:
            Exception: A node failed.
        """
        nodes = _Nodes(run, self._kept, asyncio.get_running_loop(), self._resources)
        executor = _Executor()
        try:
            results: dict[str, Any]
            results, _ = await self._threads.run(
                run.context.run.outlives, executor.execute, workflow, inputs, run_id=run.context.run_id, runtime=nodes
            )
        finally:
            nodes.stop()
        return results


class _Executor(cyclic_runner.CyclicWorkflowExecutor):  # type: ignore[misc]
    """Kailash's executor, with stages in an order that has all of them.

    Kailash 2.65 silently leaves out a cycle behind a node that follows another cycle, and runs what follows such a node
    before it.
    """

    def _create_execution_plan(
        self, workflow: Workflow, dag_edges: list[Any], cycle_groups: dict[str, list[Any]]
    ) -> Any:
        plan = super()._create_execution_plan(workflow, dag_edges, cycle_groups)
        plan.stages = _stages(workflow, list(plan.cycle_groups.values())) or plan.stages
        return plan


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


class _Nodes:
    """Runs single nodes for the executor, in the place of Kailash's ``LocalRuntime``."""

    def __init__(self, run: Run, kept: KeptByRun, loop: asyncio.AbstractEventLoop, resources: Any) -> None:
        self._resources = {"resource_registry": resources} if resources is not None else {}
        self._run = run
        self._kept = kept
        self._loop = loop
        self._stopped = False
        self._pending: Future[Any] | None = None

    def execute_node_with_enterprise_features_sync(self, node: Any, node_id: str, inputs: dict[str, Any]) -> Any:
        """Run a node and return its outputs. The name is what the executor asks for.

        Raises:
            RunStopped: The run is not wanted any more.
            Exception: The node failed.
        """
        context = self._run.context
        if self._stopped or context.cancelled:
            raise RunStopped
        node._workflow_context = self._kept
        given = {name: value for name, value in inputs.items() if node.config.get(name) is not value}
        with span("node", **{"kailash.node": node_id, "kailash.node_type": type(node).__name__}):
            result = self._on_loop(node, given) if isinstance(node, AsyncNode) else node.execute(**given)
        self._run.done += 1
        context.progress(self._run.done, None, node_id)
        return result

    def stop(self) -> None:
        """Run no further node, and cancel the async one that runs."""
        self._stopped = True
        if self._pending is not None:
            self._pending.cancel()

    def _on_loop(self, node: Any, inputs: dict[str, Any]) -> Any:
        self._pending = asyncio.run_coroutine_threadsafe(node.execute_async(**inputs, **self._resources), self._loop)
        if self._stopped:
            self._pending.cancel()
        return self._pending.result()


def check_cycles(workflow: Workflow) -> None:
    """Refuse cycles that fail in each run.

    Raises:
        ConfigurationError: A cycle has no ``max_iterations``. Kailash compares it with the count of rounds.
    """
    for cycle, edges in workflow.get_cycle_groups().items():
        if edges[0][2].get("max_iterations") is None:
            raise ConfigurationError(f'the cycle "{cycle}" has no max_iterations, without which Kailash can\'t run it.')


def late_connections(workflow: Workflow) -> set[tuple[str, str]]:
    """Return the connections (source, target) that hand on nothing in the first round of their cycle."""
    return set(_late(workflow)) if workflow.has_cycles() else set()


def last_nodes(workflow: Workflow) -> list[str]:
    """Return the nodes that nothing follows, but for the next round of a cycle."""
    edges, graph = workflow.graph.out_edges, workflow.graph
    return [node for node in graph.nodes if all(data.get("cycle") for *_, data in edges(node, data=True))]


def _late(workflow: Workflow) -> Iterator[tuple[str, str]]:
    edges, cycles = workflow.separate_dag_and_cycle_edges()
    plan = _Executor()._create_execution_plan(workflow, list(edges), workflow.get_cycle_groups())
    orders = [group.get_execution_order(workflow.graph) for group in plan.cycle_groups.values()]
    for source, target, _ in cycles:
        order = next((each for each in orders if source in each and target in each), None)
        if order is None or order.index(source) >= order.index(target):
            yield source, target


def _measure_nothing() -> None:
    """Let runs of Nexus's do without the thread that Kailash starts for each node, to sample the process's memory.

    The class is one for the whole process; doing this twice changes nothing.
    """
    collector = cyclic_runner.MetricsCollector
    if hasattr(collector, "outside_nexus"):
        return

    def collector_of_this_run() -> Any:
        return collector(enable_resource_monitoring=False if current_run.get() is not None else None)

    collector_of_this_run.outside_nexus = collector  # type: ignore[attr-defined]
    cyclic_runner.MetricsCollector = collector_of_this_run
