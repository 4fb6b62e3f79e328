"""`NodeSecrets`: what nodes require of a ``SecretProvider``. Kailash 2.65 looks for it where no node is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

    from nexus_kailash.parameters import Nodes


class NodeSecrets:
    """The secrets of a workflow's nodes.

    Args:
        workflow: The workflow.
        provider: Kailash's ``SecretProvider``, or None: then no node is given a secret.
    """

    def __init__(self, workflow: Workflow, provider: Any) -> None:
        self._provider = provider
        required = {node_id: _required(workflow.get_node(node_id)) for node_id in workflow.nodes} if provider else {}
        self._required = {node_id: requirements for node_id, requirements in required.items() if requirements}

    def __bool__(self) -> bool:
        return bool(self._required)

    def hide_from_callers(self, nodes: Nodes) -> None:
        """Take the secrets out of the parameters that callers may give."""
        for node_id, requirements in self._required.items():
            for each in requirements:
                nodes[node_id].pop(each.parameter_name, None)

    def add_to(self, inputs: dict[str, dict[str, Any]]) -> None:
        """Fetch the secrets and put them into the inputs of the nodes. The provider may block.

        Raises:
            Exception: The provider has no such secret, or failed.
        """
        for node_id, requirements in self._required.items():
            inputs[node_id] = inputs.get(node_id, {}) | self._provider.get_secrets(requirements)


def _required(node: Any) -> list[Any]:
    requirements = getattr(node, "get_secret_requirements", None)
    return list(requirements()) if requirements is not None else []
