"""The Kailash workflow that both products serve: two nodes, joined by one edge."""

from __future__ import annotations

from typing import Any


def build() -> Any:
    """Return the built workflow. It takes ``x`` for its node ``first`` and gives it back as ``z``."""
    from kailash.workflow.builder import WorkflowBuilder

    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "first", {"code": "result = {'y': x + 1}"})
    builder.add_node("PythonCodeNode", "second", {"code": "result = {'z': y - 1}"})
    builder.add_connection("first", "result.y", "second", "y")
    return builder.build(name="two_nodes")
