"""`NodeRuntime`: how the nodes of one run are run. Importing this module imports Kailash."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from kailash.nodes.base_async import AsyncNode  # type: ignore[import-untyped]

from nexus_core.types.trace import span
from nexus_kailash._vendor_internals import OverridableRuntime, set_workflow_context
from nexus_kailash.kailash_run import KailashRun, RunScopedContext, current_run
from nexus_kailash.parameters import configuration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_kailash.runtime_arguments import RuntimeArguments

log = logging.getLogger(__name__)

NO_LIMIT = 1_000_000
"""Nodes at once: Nexus bounds the runs (``max_concurrent_workflows``), so Kailash's own bound must not queue them."""

_MISSING = object()


class ConnectionRefused(Exception):
    """A value on a connection does not fit."""


class NodeRuntime(OverridableRuntime):
    """Kailash's async runtime, but for what Kailash 2.65 does otherwise in it than in `LocalRuntime`, or in vain.

    A connection from ``result`` gives the result, not all that the node gave; one from an output that is not there
    gives nothing. When a node fails, its neighbours are cancelled. What nodes give is not written as JSON text for a
    checkpoint that was not requested.

    Args:
        threads: Where sync nodes run.
        arguments: The arguments that the author has set.
    """

    def __init__(self, threads: DaemonThreads, arguments: RuntimeArguments) -> None:
        super().__init__(
            max_concurrent_nodes=NO_LIMIT,
            enable_analysis=False,
            enable_profiling=False,
            enable_monitoring=False,
            execution_timeout=0,  # the deadline is Nexus's
            connection_validation=arguments.connection_validation,
            resource_registry=arguments.resource_registry,
        )
        self._threads = threads
        self._workflow_context = RunScopedContext()

    async def run_nodes(self, workflow: Workflow, tracker: Any, context: Any) -> None:
        """Run the nodes level by level."""
        run = _current()
        for level in run.levels or ():
            await self._execute_level(level, workflow, tracker, context, run)

    async def _execute_level(
        self, level: Sequence[str], workflow: Workflow, tracker: Any, context: Any, run: KailashRun
    ) -> None:
        tasks = [asyncio.ensure_future(self._execute(node, workflow, tracker, context)) for node in level]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                if not task.done():
                    run.context.run.track_background_work(task)
                    if not task.cancelling():  # gather has cancelled them, if it was cancelled itself
                        task.cancel()

    async def _execute(self, node_id: str, workflow: Workflow, tracker: Any, context: Any) -> None:
        node = workflow.get_node(node_id)
        set_workflow_context(node, self._workflow_context)  # each time: `LocalRuntime` sets its own
        execute = self.run_async_node if isinstance(node, AsyncNode) else self.run_sync_node
        attributes = {"kailash.node": node_id, "kailash.node_type": type(node).__name__}
        run = _current()

        async def work() -> None:
            with span("node", **attributes):
                await execute(workflow, node_id, tracker, context)

        def save() -> list[Any]:
            return [tracker.results[node_id], run.workflow_context]

        def restore(saved: list[Any]) -> None:
            given, stored = saved
            run.workflow_context |= stored
            tracker.results[node_id] = tracker.node_outputs[node_id] = given
            if given is not None:  # None: it was skipped
                self.node_finished(node_id)

        await run.context.checkpoint(node_id, work, save, restore)

    async def run_in_thread(self, node: Any, inputs: dict[str, Any]) -> Any:
        """Run a sync node in a thread of Nexus."""
        return await self._threads.run(_current().context.run.track_background_work, node.execute, **inputs)

    async def inputs_of(self, workflow: Workflow, node_id: str, tracker: Any, context: Any) -> dict[str, Any]:
        """Return what callers, the configuration and connections give a node."""
        inputs = dict(context.variables.get(node_id, {}))
        for each in workflow.connections:
            if each.target_node == node_id:
                value = _output(tracker.node_outputs[each.source_node], each.source_output)
                if value is _MISSING:
                    log.warning(
                        'The node "%s" returned no "%s" for "%s".', each.source_node, each.source_output, node_id
                    )
                elif value is not None or each.target_input not in inputs:  # of a switch's branches, one gives nothing
                    inputs[each.target_input] = value
        if self.connection_validation != "off":
            self._check_connections(workflow, node_id, inputs, tracker)
        return inputs

    def _check_connections(self, workflow: Workflow, node_id: str, inputs: dict[str, Any], tracker: Any) -> None:
        """Hold a node's inputs against the contracts of its connections; if it must be strict, also against the node.

        Raises:
            ConnectionRefused: A value does not fit, and the validation is strict.
        """
        is_strict = self.connection_validation == "strict"
        if workflow.metadata.get("connection_contracts"):
            outputs: dict[str, dict[str, Any]] = {}  # by the connections' own names, which Kailash does not resolve
            for each in workflow.connections:
                value = _output(tracker.node_outputs.get(each.source_node), each.source_output)
                outputs.setdefault(each.source_node, {})[each.source_output] = None if value is _MISSING else value
            broken = self.broken_contracts(workflow, node_id, inputs, outputs)
            text = "; ".join(f"{each['connection']}: {each['error']}" for each in broken)
            if text and is_strict:
                raise ConnectionRefused(f'node "{node_id}": {text}')
            if text:
                log.warning('The inputs of the node "%s" break the contract of a connection: %s', node_id, text)
        if is_strict:
            node: Any = workflow.get_node(node_id)
            node.validate_inputs(**{**configuration(node), **inputs})

    def node_finished(self, node_id: str) -> None:
        """Report it as progress of the run."""
        run = _current()
        run.done += 1
        run.context.progress(run.done, sum(map(len, run.levels or ())), node_id)


def _current() -> KailashRun:
    run = current_run.get()
    assert run is not None  # Nexus starts every run
    return run


def _output(given: Any, path: str) -> Any:
    """Return the output that a connection names, such as ``result.rows``. A node that was skipped gives None."""
    if given is None:
        return None
    parts = path.split(".")
    if parts[0] == "result" and "result" not in given:  # a node of a class may give the members of its result
        parts = parts[1:]
    elif path in given:
        return given[path]
    value = given
    for part in parts:
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value
