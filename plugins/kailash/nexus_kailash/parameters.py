"""The open parameters of a workflow: what its nodes take and neither a connection nor the configuration gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError
from nexus_core.schema.hints import Hints
from nexus_kailash.code import free_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kailash.nodes.base import NodeParameter  # type: ignore[import-untyped]
    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

_STRUCTURE = frozenset(
    {
        "code", "name", "id", "description", "metadata", "config", "function", "class_type", "process_method",
        "input_types", "output_type", "input_schema", "output_schema", "max_code_lines", "validate_security",
        "sandbox_mode",
    }
)  # fmt: skip
"""What makes a node the node it is. Callers can't set it, whether the node declares it or not."""


@dataclass(slots=True)
class Parameter:
    """One parameter of one node.

    Attributes:
        schema: Its JSON Schema.
        required: Whether a run without it fails.
        configured: Whether the workflow's author has set it already.
        fill_in: Whether the schema's default is put in where callers give nothing; else the node has a default.
    """

    schema: dict[str, Any] = field(default_factory=dict)
    required: bool = False
    configured: bool = False
    fill_in: bool = False


Nodes = dict[str, dict[str, Parameter]]
"""The parameters of each node, by their names."""


def each_parameter(nodes: Nodes) -> Iterator[tuple[str, str, Parameter]]:
    """Yield node, name and parameter."""
    for node, parameters in nodes.items():
        for name, parameter in parameters.items():
            yield node, name, parameter


def unconnected(workflow: Workflow) -> Nodes:
    """Return each node's parameters that no connection feeds: open ones, and configured ones as such."""
    return {node_id: _of_node(workflow, node_id) for node_id in workflow.nodes}


def connected(workflow: Workflow, node_id: str) -> Iterator[tuple[str, str]]:
    """Yield, for each connection to a node, where it comes from and the parameter it feeds."""
    for source, _, edge in workflow.graph.in_edges(node_id, data=True):
        for output, target in edge.get("mapping", {}).items():
            yield f"{source}.{output}", target


def names(declared: NodeParameter) -> set[str]:
    """Return the names under which a node takes a parameter: its own, and those Kailash maps to it."""
    return {
        declared.name,
        *(declared.auto_map_from or ()),
        *([declared.workflow_alias] if declared.workflow_alias else ()),
    }


def accepts_any(node: Any) -> bool:
    """Whether a node takes parameters that it does not declare."""
    if getattr(node, "code", None):
        return True
    function = getattr(node, "function", None)
    if function is not None:
        import inspect

        return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
    declared = node.get_parameters().values()
    return not declared or any(each.auto_map_primary for each in declared)


def _of_node(workflow: Workflow, node_id: str) -> dict[str, Parameter]:
    node: Any = workflow.get_node(node_id)
    fed = {target for _, target in connected(workflow, node_id)}
    parameters = {
        name: _parameter(declared, node.config)
        for name, declared in node.get_parameters().items()
        if not _is_fed(declared, fed) and not _is_structure(name)
    }
    for name in _undeclared(node):
        if name not in fed and name not in parameters:
            parameters[name] = Parameter(required=name not in node.config, configured=name in node.config)
    return parameters


def _is_fed(declared: NodeParameter, fed: set[str]) -> bool:
    return bool(names(declared) & fed) or bool(declared.auto_map_primary and fed)


def _is_structure(name: str) -> bool:
    return name in _STRUCTURE or name.startswith("_")


def _undeclared(node: Any) -> list[str]:
    code = getattr(node, "code", None)
    if not code or getattr(node, "input_types", None) or getattr(node, "_input_schema", None):
        return []
    modules = getattr(getattr(node, "executor", None), "allowed_modules", ())
    return free_names(code, modules)


def _parameter(declared: NodeParameter, config: dict[str, Any]) -> Parameter:
    """A node's configuration holds its defaults too; a value that differs from the default is its author's."""
    value = config.get(declared.name)
    configured = declared.name in config and value is not None and value != declared.default
    required = declared.required and declared.default is None and not configured
    return Parameter(_schema(declared), required, configured)


def _schema(declared: NodeParameter) -> dict[str, Any]:
    try:
        schema = dict(Hints({declared.name: declared.type or Any}).schemas[declared.name])
    except ConfigurationError:
        schema = {}  # a type of Kailash's own: the node checks it
    if "$ref" in str(schema):
        schema = {}
    if declared.description:
        schema["description"] = declared.description
    choices = getattr(declared, "choices", None) or getattr(declared, "enum", None)
    if choices:
        schema["enum"] = list(choices)
    if not declared.required and isinstance(declared.default, (str, int, float, bool)):
        schema["default"] = declared.default
    return schema
