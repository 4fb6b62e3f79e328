"""Runs workflows with cycles, on Kailash's own ``CyclicWorkflowExecutor``: its async runtime runs one round of them.

The executor is sync and keeps the state of one run, so each run has a separate one, in a thread. Between two nodes it
checks that the run is still wanted. Async nodes run on the event loop, where their connections belong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kailash.nodes.base_async import AsyncNode  # type: ignore[import-untyped]

from nexus_core.errors import ConfigurationError
from nexus_core.types.trace import span
from nexus_kailash._vendor_internals import CycleExecutor, disable_resource_monitoring, set_workflow_context
from nexus_kailash.kailash_run import KailashRun, RunScopedContext

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
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
        self._workflow_context = RunScopedContext()
        disable_resource_monitoring()

    async def run(self, workflow: Workflow, inputs: dict[str, dict[str, Any]], run: KailashRun) -> dict[str, Any]:
        """Run a workflow and return what each node has returned. Each execution of a node is reported as progress.

        Raises:
            Exception: A node failed.
        """
        nodes = _NodeCaller(run, self._workflow_context, asyncio.get_running_loop(), self._resources, self._threads)
        executor = CycleExecutor()
        try:
            results: dict[str, Any]
            results, _ = await self._threads.run(
                run.context.run.track_background_work,
                executor.execute,
                workflow,
                inputs,
                run_id=run.context.run_id,
                runtime=nodes,
            )
        finally:
            nodes.stop()
        return results


class _NodeCaller:
    """Runs single nodes for the executor, in the place of Kailash's ``LocalRuntime``."""

    def __init__(
        self, run: KailashRun, workflow_context: RunScopedContext, loop: asyncio.AbstractEventLoop, resources: Any,
        threads: DaemonThreads,
    ) -> None:  # fmt: skip
        self._threads = threads
        self._resources = {"resource_registry": resources} if resources is not None else {}
        self._run = run
        self._workflow_context = workflow_context
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
        set_workflow_context(node, self._workflow_context)
        given = {name: value for name, value in inputs.items() if node.config.get(name) is not value}
        attributes = {"kailash.node": node_id, "kailash.node_type": type(node).__name__}
        if context.is_durable:
            result = self._once(node, node_id, given, attributes)
        else:
            with span("node", **attributes), context.recording(node_id):
                is_async = isinstance(node, AsyncNode)
                result = self._on_loop(self._called(node, given)) if is_async else node.execute(**given)
        self._run.done += 1
        context.progress(self._run.done, None, node_id)
        return result

    def _once(self, node: Any, node_id: str, inputs: dict[str, Any], attributes: dict[str, str]) -> Any:
        """Return what a node of a durable run has returned, at this attempt or at an earlier one."""
        run, results = self._run, []

        async def work() -> None:
            with span("node", **attributes):
                if isinstance(node, AsyncNode):
                    results.append(await self._called(node, inputs))
                else:
                    outlives = run.context.run.track_background_work
                    results.append(await self._threads.run(outlives, node.execute, **inputs))

        def save() -> list[Any]:
            return [results[0], run.workflow_context]

        def restore(saved: list[Any]) -> None:
            result, stored = saved
            run.workflow_context |= stored
            results.append(result)

        self._on_loop(run.context.checkpoint(node_id, work, save, restore))
        return results[0]

    def stop(self) -> None:
        """Run no further node, and cancel the async one that runs."""
        self._stopped = True
        if self._pending is not None:
            self._pending.cancel()

    def _called(self, node: Any, inputs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        called: Coroutine[Any, Any, Any] = node.execute_async(**inputs, **self._resources)
        return called

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        self._pending = asyncio.run_coroutine_threadsafe(work, self._loop)
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
    _, cycles = workflow.separate_dag_and_cycle_edges()
    orders = [group.get_execution_order(workflow.graph) for group in CycleExecutor().cycle_groups(workflow)]
    for source, target, _ in cycles:
        order = next((each for each in orders if source in each and target in each), None)
        if order is None or order.index(source) >= order.index(target):
            yield source, target
