"""`Addresses`: how callers name the parameters of a workflow's nodes, and where each value goes.

A parameter has one published address: the name its author gave it; else its own name, where only one node has it; else
``{"node": {"name": ...}}``. The address with the node works for every parameter.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ValidationError
from nexus_core.jsontext import type_name
from nexus_core.schema.report import nearest, pointer, summary
from nexus_core.schema.validation import Validator
from nexus_kailash.parameters import Nodes, Parameter, each_parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nexus_kailash.expected import Aliases

Inputs = dict[str, dict[str, Any]]


class Addresses:
    """The parameters of a workflow that callers may give.

    Args:
        nodes: The parameters of each node.
        aliases: Names of the author's own.

    Attributes:
        schema: The JSON Schema callers see, with one property for each published address.
    """

    def __init__(self, nodes: Nodes, aliases: Aliases) -> None:
        self._nodes = {node: parameters for node, parameters in nodes.items() if parameters}
        self._flat = _flat_names(nodes, aliases)
        self._defaults = [
            (node, name, parameter.schema["default"])
            for node, name, parameter in each_parameter(self._nodes)
            if parameter.fill_in
        ]
        self.schema = self._published()
        self._validator = Validator(_object({node: _of_node(own) for node, own in self._nodes.items()}))

    def inputs(self, params: Mapping[str, Any]) -> Inputs:
        """Return the checked parameters of each node.

        Raises:
            ValidationError: A name is unknown or given twice, or a value does not fit. Each is named by its JSON
                pointer, the way the caller addressed it.
        """
        inputs: Inputs = {node: {} for node in self._nodes}
        errors = list(self._place(params, inputs))
        for node, name, default in self._defaults:
            inputs[node].setdefault(name, default)
        for error in self._validator.errors(inputs):
            error["pointer"] = self._as_given(error["pointer"], params)
            if error not in errors:
                errors.append(error)
        if errors:
            raise ValidationError(summary(errors), errors=errors)
        return inputs

    def _place(self, params: Mapping[str, Any], inputs: Inputs) -> Iterator[dict[str, Any]]:
        """Put each value where it belongs; yield an error for what has no place."""
        for key, value in params.items():
            if key in self._flat:
                for node, name in self._flat[key]:
                    if name in inputs[node]:
                        yield _twice([key], [node, name])
                    inputs[node][name] = value
            elif key not in self._nodes:
                yield _unknown([key], [*self._flat, *self._nodes])
            elif not isinstance(value, dict):
                message = f"expected an object with parameters of this node, got {type_name(value)}"
                yield {"pointer": pointer([key]), "message": message, "expected": "object"}
            else:
                yield from self._place_of_node(key, value, inputs[key])

    def _place_of_node(self, node: str, value: dict[str, Any], inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for name, item in value.items():
            if name not in self._nodes[node]:
                yield _unknown([node, name], list(self._nodes[node]))
                continue
            if name in inputs:
                yield _twice([node, name], [self._flat_name(node, name)])
            inputs[name] = item

    def _flat_name(self, node: str, name: str) -> str:
        return next(flat for flat, targets in self._flat.items() if (node, name) in targets)

    def _as_given(self, found: str, params: Mapping[str, Any]) -> str:
        """Return a pointer into the nodes' inputs as a pointer to what the caller gave, or should have given."""
        for flat, targets in self._flat.items():
            for node, name in targets:
                nested, given = pointer([node, name]), params.get(node)
                is_nested = isinstance(given, dict) and name in given
                if not is_nested and (found == nested or found.startswith(f"{nested}/")):
                    return pointer([flat]) + found.removeprefix(nested)
        return found

    def _published(self) -> dict[str, Any]:
        has_flat = {target for targets in self._flat.values() for target in targets}
        properties: dict[str, Any] = {}
        required: list[str] = []
        for flat, targets in self._flat.items():
            parameters = [self._nodes[node][name] for node, name in targets]
            properties[flat] = parameters[0].schema
            required += [flat] if any(each.required for each in parameters) else []
        for node, own in self._nodes.items():
            rest = {name: parameter for name, parameter in own.items() if (node, name) not in has_flat}
            if rest:
                properties[node] = _of_node(rest)
                required += [node] if any(parameter.required for parameter in rest.values()) else []
        return _object(properties, required)


def _flat_names(nodes: Nodes, aliases: Aliases) -> Aliases:
    open_ = {(node, name) for node, name, _ in each_parameter(nodes)}
    flat = {alias: kept for alias, targets in aliases.items() if (kept := [each for each in targets if each in open_])}
    named = {target for targets in flat.values() for target in targets}
    count = Counter(name for _, name in open_)
    for node, name, _ in each_parameter(nodes):
        if count[name] == 1 and name not in nodes and name not in flat and (node, name) not in named:
            flat[name] = [(node, name)]
    return flat


def _of_node(parameters: dict[str, Parameter]) -> dict[str, Any]:
    return _object({n: p.schema for n, p in parameters.items()}, [n for n, p in parameters.items() if p.required])


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or [], "additionalProperties": False}


def _unknown(path: list[str], known: list[str]) -> dict[str, Any]:
    near = nearest(str(path[-1]), known)
    hint = (
        {"message": f'unknown name; did you mean "{near}"?', "nearest": near} if near else {"message": "unknown name"}
    )
    return {"pointer": pointer(path), **hint}


def _twice(path: list[str], other: list[str]) -> dict[str, Any]:
    return {"pointer": pointer(path), "message": f"given twice: {pointer(other)} means the same parameter"}
