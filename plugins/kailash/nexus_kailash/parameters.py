"""The open parameters of a workflow: what its nodes take and neither a connection nor the configuration gives."""

from __future__ import annotations

import inspect
import re
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from nexus_core import ConfigurationError, schema_of
from nexus_kailash._vendor_internals import has_input_schema
from nexus_kailash.author_settings import is_library_node, kind_of_setting
from nexus_kailash.code import free_names, hiding_names
from nexus_kailash.cycles import late_connections

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from kailash.nodes.base import NodeParameter  # type: ignore[import-untyped]
    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

_STRUCTURE = frozenset(
    {
        "code", "name", "id", "description", "metadata", "config", "function", "class_type", "process_method",
        "input_types", "output_type", "input_schema", "output_schema", "max_code_lines", "validate_security",
        "sandbox_mode", "validation_schema",
    }
)  # fmt: skip
"""What makes a node of the library the node it is. Callers can't set it, whether the node declares it or not."""

_HANDED_ON = (str, int, float, bool, list, dict, tuple, set, type(None))
"""What Kailash lets into Python nodes, of all that callers can give."""

_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")


@dataclass(slots=True)
class Parameter:
    """One parameter of one node.

    Attributes:
        schema: Its JSON Schema.
        required: Whether a run without it fails.
        configured: Whether it is closed to callers unless the author names it: the author has set it already, Python
            knows the name, or it is a setting (see `nexus_kailash.author_settings`) that has a default.
        fill_in: Whether the schema's default is put in where callers give nothing; else the node has a default.
        setting: What it decides, if it is a setting of a library node ("path", "address", ...).
    """

    schema: dict[str, Any] = field(default_factory=dict)
    required: bool = False
    configured: bool = False
    fill_in: bool = False
    setting: str | None = None


Nodes = dict[str, dict[str, Parameter]]
"""The parameters of each node, by their names."""


def each_parameter(nodes: Nodes) -> Iterator[tuple[str, str, Parameter]]:
    """Yield node, name and parameter."""
    for node, parameters in nodes.items():
        for name, parameter in parameters.items():
            yield node, name, parameter


def unconnected(workflow: Workflow) -> Nodes:
    """Return each node's parameters that no connection feeds: open ones, and configured ones as such.

    What only the next round of a cycle feeds is open: callers may give its first value.
    """
    late = late_connections(workflow)
    nodes = {node_id: _of_node(workflow, node_id, late) for node_id in workflow.nodes}
    if workflow.has_cycles():  # Kailash passes one to each node
        for parameters in nodes.values():
            parameters.pop("context", None)
    return nodes


def connected(workflow: Workflow, node_id: str, late: Collection[tuple[str, str]] = ()) -> Iterator[tuple[str, str]]:
    """Yield, for each connection to a node, where it comes from and the parameter it feeds.

    Args:
        workflow: The workflow.
        node_id: The node.
        late: Connections (source, target) to leave out.
    """
    for each in workflow.connections:
        if each.target_node == node_id and (each.source_node, node_id) not in late:
            yield f"{each.source_node}.{each.source_output}", each.target_input


def names(declared: NodeParameter) -> set[str]:
    """Return the names under which a node takes a parameter: its own, and those Kailash maps to it."""
    return {
        declared.name,
        *(declared.auto_map_from or ()),
        *([declared.workflow_alias] if declared.workflow_alias else ()),
    }


def placeholders(value: Any) -> set[str]:
    """Return the names that a configuration leaves open: ``{"field": "${column}"}``."""
    if isinstance(value, str):
        return set(_PLACEHOLDER.findall(value))
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(placeholders, items))


def called(node: Any) -> Callable[..., Any] | None:
    """Return the function or method that a Python node calls, if it is not code."""
    if (function := getattr(node, "function", None)) is not None:
        return function  # type: ignore[no-any-return]
    cls = getattr(node, "class_type", None)
    return getattr(cls, node.process_method or "process", None) if cls is not None else None


def accepts_any(node: Any) -> bool:
    """Whether a node takes parameters that it does not declare."""
    if getattr(node, "code", None):
        return True
    if (function := called(node)) is not None:
        return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
    declared = node.get_parameters().values()
    return not declared or any(each.auto_map_primary for each in declared)


def taking_anything(workflow: Workflow) -> list[str]:
    """Return the nodes whose function takes any name (``**values``)."""
    nodes = {node_id: workflow.get_node(node_id) for node_id in workflow.nodes}
    return [node_id for node_id, node in nodes.items() if called(node) is not None and accepts_any(node)]


def configuration(node: Any) -> dict[str, Any]:
    """Return what a node is configured with, as Kailash reads it: ``add_node(..., config={...})`` nests it."""
    config: dict[str, Any] = node.config
    nested = config.get("config")
    return config | nested if isinstance(nested, dict) else config


def _of_node(workflow: Workflow, node_id: str, late: Collection[tuple[str, str]]) -> dict[str, Parameter]:
    node: Any = workflow.get_node(node_id)
    fed = {target for _, target in connected(workflow, node_id, late)}
    hints = _hints(node)
    parameters: dict[str, Parameter] = {}
    for name, declared in _declared(node).items():
        if not _is_fed(declared, fed):
            parameter = _parameter(declared, configuration(node), hints.get(name, declared.type))
            if called(node) is None and (kind := kind_of_setting(node, declared)):
                parameter.setting, parameter.configured = kind, parameter.configured or not parameter.required
            if name not in hints or parameter.configured or _is_handed_on(hints[name]):
                parameters[name] = parameter
            elif parameter.required:
                raise ConfigurationError(
                    f'node "{node_id}": callers can\'t give "{name}": Kailash hands only JSON\'s types on to Python '
                    f"nodes, not {hints[name]!r}."
                )
    parameters |= {name: each for name, each in _undeclared(node).items() if name not in fed | parameters.keys()}
    return parameters


def _declared(node: Any) -> dict[str, NodeParameter]:
    """Return what a node declares, without what makes it the node it is."""
    declared: dict[str, NodeParameter] = node.get_parameters()
    if called(node) is not None:
        return declared
    if _is_bare_code(node):
        return {}
    if not is_library_node(node):
        return {name: each for name, each in declared.items() if not name.startswith("_")}
    return {name: each for name, each in declared.items() if name not in _STRUCTURE and not name.startswith("_")}


def _hints(node: Any) -> dict[str, Any]:
    """Return the type hints of a Python node's function; Kailash declares most of them as Any."""
    function = called(node)
    if function is None:
        return {}
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


def _is_handed_on(hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin is not None:
        return origin is Literal or all(_is_handed_on(each) for each in (args[:1] if origin is Annotated else args))
    is_abstract = getattr(hint, "__module__", "") == "collections.abc"
    return hint in (Any, object) or is_abstract or not isinstance(hint, type) or issubclass(hint, _HANDED_ON)


def _is_fed(declared: NodeParameter, fed: set[str]) -> bool:
    return bool(names(declared) & fed) or bool(declared.auto_map_primary and fed)


def _is_bare_code(node: Any) -> bool:
    return bool(getattr(node, "code", None) and not getattr(node, "input_types", None) and not has_input_schema(node))


def _undeclared(node: Any) -> dict[str, Parameter]:
    if not _is_bare_code(node):
        return {name: Parameter() for name in sorted(placeholders(node.config))}
    modules = getattr(getattr(node, "executor", None), "allowed_modules", ())
    config = configuration(node)
    found = {
        name: Parameter(required=needed and name not in config, configured=name in config)
        for name, needed in free_names(node.code, modules).items()
    }
    return found | {name: Parameter(configured=True) for name in hiding_names(node.code, modules)}


def _parameter(declared: NodeParameter, config: dict[str, Any], hint: Any) -> Parameter:
    """A node's configuration holds its defaults too; a value that differs from the default is its author's."""
    value = config.get(declared.name)
    configured = declared.name in config and value is not None and value != declared.default
    required = declared.required and declared.default is None and not configured
    return Parameter(_schema(declared, hint), required, configured)


def _schema(declared: NodeParameter, hint: Any) -> dict[str, Any]:
    try:
        schema = schema_of(hint or Any, declared.name)
    except ConfigurationError:
        schema = {}  # a type of Kailash's own: the node checks it
    if "$defs" in schema:
        schema = {}
    if declared.description:
        schema["description"] = declared.description
    choices = getattr(declared, "choices", None) or getattr(declared, "enum", None)
    if choices:
        schema["enum"] = list(choices)
    if not declared.required and isinstance(declared.default, (str, int, float, bool)):
        schema["default"] = declared.default
    return schema
