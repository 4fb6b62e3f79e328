"""`Addresses`: how callers name the parameters of a workflow's nodes, and where each value goes.

A parameter has one published address: its own name where only one node has it, else ``{"node": {"name": ...}}``. The
address with the node's name works for every parameter.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError, ValidationError
from nexus_core.jsontext import type_name
from nexus_core.schema.expected import from_expected_parameters
from nexus_core.schema.report import nearest, pointer, summary
from nexus_core.schema.validation import Validator
from nexus_kailash.parameters import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Nodes = dict[str, dict[str, Parameter]]


class Addresses:
    """The parameters of a workflow that callers may give.

    Args:
        nodes: The parameters of each node.

    Attributes:
        schema: The JSON Schema callers see: one property for each published address.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = {node: parameters for node, parameters in nodes.items() if parameters}
        count = Counter(name for parameters in nodes.values() for name in parameters)
        self._flat = {
            name: (node, name)
            for node, parameters in self._nodes.items()
            for name in parameters
            if count[name] == 1 and name not in nodes
        }
        self._defaults = [
            (node, name, parameter.schema["default"])
            for node, name, parameter in _each(self._nodes)
            if parameter.expected and "default" in parameter.schema and not parameter.configured
        ]
        self.schema = self._published()
        self._validator = Validator(_object({node: _of_node(parameters) for node, parameters in self._nodes.items()}))

    def inputs(self, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the checked parameters of each node.

        Raises:
            ValidationError: A name is unknown or given twice, or a value does not fit. Every one is named by its
                JSON pointer, the way the caller addressed it.
        """
        inputs: dict[str, dict[str, Any]] = {node: {} for node in self._nodes}
        errors = list(self._place(params, inputs))
        for node, name, default in self._defaults:
            inputs[node].setdefault(name, default)
        for error in self._validator.errors(inputs):
            error["pointer"] = self._as_given(error["pointer"], params)
            errors.append(error)
        if errors:
            raise ValidationError(summary(errors), errors=errors)
        return inputs

    def _place(self, params: Mapping[str, Any], inputs: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Put each value where it belongs; yield what has no place."""
        for key, value in params.items():
            if key in self._flat:
                node, name = self._flat[key]
                if name in inputs[node]:
                    yield _twice([key], [node, name])
                inputs[node][name] = value
            elif key not in self._nodes:
                yield _unknown([key], [*self._flat, *self._nodes])
            elif not isinstance(value, dict):
                yield {
                    "pointer": pointer([key]),
                    "message": f"expected an object with the parameters of this node, got {type_name(value)}",
                    "expected": "object",
                }
            else:
                for name, item in value.items():
                    if name not in self._nodes[key]:
                        yield _unknown([key, name], list(self._nodes[key]))
                    elif name in inputs[key]:
                        yield _twice([key, name], [name])
                    inputs[key].update({name: item} if name in self._nodes[key] else {})

    def _as_given(self, found: str, params: Mapping[str, Any]) -> str:
        """Return a pointer into the nodes' inputs as a pointer to what the caller gave, or should have."""
        for name, (node, _) in self._flat.items():
            nested, given = pointer([node, name]), params.get(node)
            is_nested = isinstance(given, dict) and name in given
            if not is_nested and (found == nested or found.startswith(f"{nested}/")):
                return pointer([name]) + found.removeprefix(nested)
        return found

    def _published(self) -> dict[str, Any]:
        flat = {name: self._nodes[node][name] for name, (node, _) in self._flat.items()}
        nested = {
            node: {name: each for name, each in parameters.items() if self._flat.get(name, ("",))[0] != node}
            for node, parameters in self._nodes.items()
        }
        properties = {name: parameter.schema for name, parameter in flat.items()}
        properties |= {node: _of_node(parameters) for node, parameters in nested.items() if parameters}
        required = [name for name, parameter in flat.items() if parameter.required]
        required += [node for node, parameters in nested.items() if any(p.required for p in parameters.values())]
        return _object(properties, required)


def expected_nodes(name: str, nodes: Nodes, expected: Mapping[str, Any] | None) -> Nodes:
    """Return the parameters callers may give: what ``expected_parameters`` names, or everything that is open.

    Raises:
        ConfigurationError: It names a parameter that no node has or several have, or lacks one that must be given.
    """
    if not expected:
        return {node: {n: p for n, p in each.items() if not p.configured} for node, each in nodes.items()}
    schema = from_expected_parameters(expected)
    chosen: Nodes = {node: {} for node in nodes}
    for key, entry in schema["properties"].items():
        if key in nodes and "properties" in entry:
            for parameter, part in entry["properties"].items():
                _choose(name, nodes, chosen, [key], parameter, part, parameter in entry.get("required", ()))
        else:
            having = [node for node, parameters in nodes.items() if key in parameters]
            _choose(name, nodes, chosen, having, key, entry, key in schema["required"])
    for node, parameter_name, parameter in _each(nodes):
        if parameter.required and parameter_name not in chosen[node]:
            raise ConfigurationError(
                f'{name}: the node "{node}" needs "{parameter_name}": configure it, connect it, or add it to '
                f"expected_parameters."
            )
    return chosen


def _choose(
    workflow: str, nodes: Nodes, chosen: Nodes, having: list[str], name: str, schema: dict[str, Any], required: bool
) -> None:
    known = sorted({each for parameters in nodes.values() for each in parameters})
    having = [node for node in having if name in nodes[node]]
    if not having:
        near = nearest(name, known)
        hint = f' Did you mean "{near}"?' if near else ""
        raise ConfigurationError(
            f'{workflow}: expected_parameters names "{name}", which no node takes from outside.{hint}'
        )
    if len(having) > 1:
        raise ConfigurationError(
            f'{workflow}: several nodes take "{name}" ({", ".join(having)}); in expected_parameters, name the node: '
            f'{{"{having[0]}": {{"type": "object", "properties": {{"{name}": {{...}}}}}}}}.'
        )
    own = nodes[having[0]][name]
    needed = required or (own.required and "default" not in schema)
    chosen[having[0]][name] = Parameter(own.schema | schema, needed, own.configured, expected=True)


def _each(nodes: Nodes) -> Iterator[tuple[str, str, Parameter]]:
    for node, parameters in nodes.items():
        for name, parameter in parameters.items():
            yield node, name, parameter


def _of_node(parameters: dict[str, Parameter]) -> dict[str, Any]:
    return _object({n: p.schema for n, p in parameters.items()}, [n for n, p in parameters.items() if p.required])


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or [], "additionalProperties": False}


def _unknown(path: list[str], known: list[str]) -> dict[str, Any]:
    near = nearest(path[-1], known)
    hint = (
        {"message": f'unknown name; did you mean "{near}"?', "nearest": near} if near else {"message": "unknown name"}
    )
    return {"pointer": pointer(path), **hint}


def _twice(path: list[str], other: list[str]) -> dict[str, Any]:
    return {"pointer": pointer(path), "message": f"given twice: {pointer(other)} means the same parameter"}
