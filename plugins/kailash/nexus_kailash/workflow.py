"""`KailashWorkflow`: a Kailash workflow in Nexus's shape."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nexus_core import Workflow, WorkflowError
from nexus_core.errors import ConfigurationError
from nexus_core.schema.expected import from_expected_parameters
from nexus_core.workflows.code_digest import digest_of_json
from nexus_kailash._vendor_internals import copy_graph, restrict_placeholders_to_configuration
from nexus_kailash.addresses import Addresses
from nexus_kailash.cycles import last_nodes
from nexus_kailash.envelope import PARAMETERS, WORKFLOW_CONTEXT, Envelope, reads_workflow_context, take_envelope
from nexus_kailash.expected import aliases, allowed, left_to_callers
from nexus_kailash.kailash_run import KailashRun
from nexus_kailash.node_secrets import NodeSecrets
from nexus_kailash.parameters import taking_anything, unconnected
from nexus_kailash.tuning import tune

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kailash.workflow.graph import Workflow as Graph  # type: ignore[import-untyped]

    from nexus_core import Context
    from nexus_kailash.runtime import Runtime

log = logging.getLogger(__name__)


class NodeFailed(Exception):
    """A node reported a failure instead of raising it."""


class KailashWorkflow(Workflow):
    """Runs a Kailash workflow. Its value has what each leaf gave: ``{"leaf": {"result": ...}}``.

    Args:
        name: The name callers use.
        graph: A built workflow.
        metadata: As given at registration; ``expected_parameters`` limits what callers may set.
        runtime: Runs it.
    """

    uses_context = False  # nodes see neither caller nor session

    def __init__(self, name: str, graph: Graph, metadata: Mapping[str, Any], runtime: Runtime) -> None:
        self.runtime = runtime
        tune(graph)
        restrict_placeholders_to_configuration()
        self._graph = copy_graph(graph)
        self._levels = None if graph.has_cycles() else _levels(graph)
        self._leaves = last_nodes(graph)
        self._secrets = NodeSecrets(graph, runtime.arguments.secret_provider)
        self._addresses = _addresses(name, graph, metadata.get("expected_parameters"), self._secrets)
        super().__init__(
            name,
            input_schema=self._addresses.schema,
            description=metadata.get("description") or graph.description or "",
            metadata=metadata,
        )

    @cached_property
    def code_digest(self) -> str:
        """See `Workflow.code_digest`: of the nodes, their classes and their connections."""
        nodes = sorted((node_id, node.node_type) for node_id, node in self._graph.nodes.items())
        return digest_of_json([nodes, sorted(map(list, self._graph.graph.edges()))])

    def prepare(self, params: dict[str, Any]) -> dict[str, Any]:
        """Check parameters and sort them by node."""
        return self._addresses.inputs(params)

    def takes(self, name: str) -> bool:
        """Whether callers may give something under a name: nodes have names too."""
        return self._addresses.takes(name)

    async def run(self, params: dict[str, Any], context: Context) -> dict[str, Any]:
        """Run the nodes and return the leaves' results.

        Raises:
            WorkflowError: A node's code has raised it.
            Exception: A node failed.
        """
        try:
            inputs = {node: given for node, given in params.items() if node in self._graph.nodes}
            initial = {} if WORKFLOW_CONTEXT in inputs else dict(params.get(WORKFLOW_CONTEXT, {}))
            results = await self.runtime.run(
                self._graph, inputs, KailashRun(context, self._levels, workflow_context=initial), self._secrets
            )
        except Exception as exc:
            if (error := _workflow_error(exc)) is not None:
                raise error from exc
            raise
        for node, result in results.items():
            if (reason := _failure(result)) is not None:
                raise NodeFailed(f'node "{node}": {reason}')
        return {node: results.get(node) for node in self._leaves}


def _levels(graph: Graph) -> list[list[str]]:
    """Return the nodes by the length of the longest way to them."""
    levels: list[list[str]] = []
    depths: dict[str, int] = {}
    for node_id in graph.get_execution_order():
        depth = 1 + max((depths[each] for each in graph.graph.predecessors(node_id)), default=-1)
        depths[node_id] = depth
        if depth == len(levels):
            levels.append([])
        levels[depth].append(node_id)
    return levels


def _addresses(name: str, graph: Graph, expected: Mapping[str, Any] | None, secrets: NodeSecrets) -> Addresses:
    try:
        nodes = unconnected(graph)
        secrets.hide_from_callers(nodes)
        envelope, context = Envelope(), {"type": "object"} if reads_workflow_context(graph) else None
        if "properties" in (expected or {}).get(PARAMETERS, {"properties"}):
            envelope = take_envelope(graph, nodes)
        if expected and context:
            context = from_expected_parameters(expected)["properties"].get(WORKFLOW_CONTEXT)
            expected = {key: entry for key, entry in expected.items() if key != WORKFLOW_CONTEXT}
        named = aliases(graph, nodes)
        if not expected and (settings := left_to_callers(nodes, named)):
            log.warning(
                "%s: callers choose %s. Configure it, or confirm that callers may choose it in expected_parameters.",
                name, ", ".join(settings),
            )  # fmt: skip
        open_nodes = [*taking_anything(graph), *([PARAMETERS] if envelope.is_open else [])]
        envelope.is_open &= not expected
        return Addresses(allowed(nodes, named, expected, open_nodes), named, envelope, context)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{name}: {exc}") from None


def _workflow_error(exc: BaseException | None) -> WorkflowError | None:
    """Return the error meant for the caller, which Kailash has wrapped in its own."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        if isinstance(exc, WorkflowError):
            return exc
        seen.add(id(exc))
        exc = exc.__cause__ or exc.__context__
    return None


def _failure(result: Any) -> str | None:
    """Return the reason, if a node's result is Kailash's report of a failure."""
    if not isinstance(result, dict) or not result.get("error") or "result" in result:
        return None
    flagged = (
        result.get("failed") is True or result.get("success") is False or result.get("status") in ("error", "failed")
    )
    return str(result["error"]) if flagged or len(result) == 1 else None
