"""`Addresses`: how callers name the parameters of a workflow's nodes, and where each value goes.

A parameter has a published address: the names its author gave it; else its own name, which stands for the parameters
of all nodes that take it; else, where their schemas differ, ``{"node": {"name": ...}}``. The address with the node
works for every parameter, and comes before a name that several nodes take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.errors import ValidationError
from nexus_core.jsontext import type_name
from nexus_core.schema.report import pointer, summary
from nexus_core.schema.validation import Validator
from nexus_core.text import nearest
from nexus_kailash.envelope import PARAMETERS, WORKFLOW_CONTEXT, Envelope
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
        envelope: The nodes that take all that a caller gives as ``parameters``.
        context: The schema of ``workflow_context``, or None where callers can't give it.

    Attributes:
        schema: The JSON Schema callers see, with one property for each published address.
    """

    def __init__(
        self, nodes: Nodes, aliases: Aliases, envelope: Envelope | None = None, context: dict[str, Any] | None = None
    ) -> None:
        self._envelope = envelope or Envelope()
        self._nodes = {
            node: own for node, own in nodes.items() if own or (node == PARAMETERS and self._envelope.is_open)
        }
        self._without = nodes.keys() - self._nodes.keys()
        self._flat = _flat_names(self._nodes, aliases)
        self._context = None if WORKFLOW_CONTEXT in self._flat else context
        self._published_flat = [
            name for name in self._flat if name not in self._nodes and (name in aliases or self._is_one_schema(name))
        ]
        self._defaults = [
            (node, name, parameter.schema["default"])
            for node, name, parameter in each_parameter(self._nodes)
            if parameter.fill_in
        ]
        self.schema = self._published()
        own = {node: self._of_node(node, parameters) for node, parameters in self._nodes.items()}
        self._validator = Validator(_object(own | ({} if self._context is None else {WORKFLOW_CONTEXT: self._context})))

    def inputs(self, params: Mapping[str, Any]) -> Inputs:
        """Return the checked parameters of each node, and those of ``workflow_context`` under that name.

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
        sent = inputs.pop(PARAMETERS, {}) if self._envelope.takers else {}
        for node in self._envelope.takers:
            inputs.setdefault(node, {})[PARAMETERS] = dict(sent)
        return inputs

    def takes(self, name: str) -> bool:
        """Whether callers may give something under a name: a parameter's, a node's, or any where that is open."""
        is_context = name == WORKFLOW_CONTEXT and self._context is not None
        return is_context or name in self._nodes or name in self._flat or self._envelope.is_open

    def _place(self, params: Mapping[str, Any], inputs: Inputs) -> Iterator[dict[str, Any]]:
        """Put each value where it belongs; yield an error for what has no place."""
        for key, value in params.items():
            if key == WORKFLOW_CONTEXT and self._context is not None:
                inputs[key] = value
            elif self._is_node(key, value):
                yield from self._place_of_node(key, value, inputs[key])
            elif key not in self._flat and not self._envelope.is_open and not (key in self._without and value == {}):
                yield _unknown([key], [*self._flat, *self._nodes])
        for name in self._flat:  # in the author's order: of two names for one parameter, the later counts
            if name in params and not self._is_node(name, params[name]):
                yield from self._place_flat(name, params, inputs)
        if self._envelope.is_open:
            rest = {k: value for k, value in params.items() if not self._is_node(k, value) and k != WORKFLOW_CONTEXT}
            inputs[PARAMETERS] = rest | inputs[PARAMETERS]

    def _place_flat(self, flat: str, params: Mapping[str, Any], inputs: Inputs) -> Iterator[dict[str, Any]]:
        targets = self._flat[flat]
        for node, name in targets:
            if not self._is_nested(params, node, name):
                inputs[node][name] = params[flat]
            elif len(targets) == 1:
                first, second = sorted(([flat], [node, name]), key=lambda path: list(params).index(path[0]))
                message = f"given twice: {pointer(first)} means the same parameter"
                yield {"pointer": pointer(second), "message": message}

    def _place_of_node(self, node: str, value: Any, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not isinstance(value, dict):
            message = f"expected an object with parameters of this node, got {type_name(value)}"
            yield {"pointer": pointer([node]), "message": message, "expected": "object"}
            return
        for name, item in value.items():
            if name in self._nodes[node] or self._is_open(node):
                inputs[name] = item
            else:
                yield _unknown([node, name], list(self._nodes[node]))

    def _as_given(self, found: str, params: Mapping[str, Any]) -> str:
        """Return a pointer into the nodes' inputs as a pointer to what the caller gave, or should have given."""
        names = [*(name for name in self._flat if name in params), *self._published_flat]
        for flat in names:
            for node, name in self._flat[flat]:
                nested = pointer([node, name])
                if not self._is_nested(params, node, name) and (found == nested or found.startswith(f"{nested}/")):
                    return pointer([flat]) + found.removeprefix(nested)
        return found

    def _is_node(self, key: str, value: Any) -> bool:
        """Whether a key stands for a node. Where a parameter has a node's name, the value decides."""
        if key not in self._nodes:
            return False
        own = self._nodes[key].keys()
        return key not in self._flat or (isinstance(value, dict) and (self._is_open(key) or value.keys() <= own))

    def _is_nested(self, params: Mapping[str, Any], node: str, name: str) -> bool:
        given = params.get(node)
        return isinstance(given, dict) and name in given and self._is_node(node, given)

    def _is_open(self, node: str) -> bool:
        return node == PARAMETERS and self._envelope.is_open

    def _of_node(self, node: str, parameters: dict[str, Parameter]) -> dict[str, Any]:
        schemas = {name: parameter.schema for name, parameter in parameters.items()}
        required = [name for name, parameter in parameters.items() if parameter.required]
        return _object(schemas, required, self._is_open(node))

    def _parameters(self, flat: str) -> list[Parameter]:
        return [self._nodes[node][name] for node, name in self._flat[flat]]

    def _is_one_schema(self, flat: str) -> bool:
        """Whether all parameters of a name take the same: some may take anything."""
        kinds = [_without_notes(parameter.schema) for parameter in self._parameters(flat)]
        strict = [kind for kind in kinds if kind]
        return all(kind == strict[0] for kind in strict)

    def _published(self) -> dict[str, Any]:
        has_flat = {target for name in self._published_flat for target in self._flat[name]}
        properties: dict[str, Any] = {}
        required: list[str] = []
        for flat in self._published_flat:
            parameters = self._parameters(flat)
            properties[flat] = _merged(parameters)
            others = self._other_names(flat)
            if others:
                properties[flat] = properties[flat] | {"description": _choice([flat, *others])}
            required += [flat] if not others and any(each.required for each in parameters) else []
        for node, own in self._nodes.items():
            rest = {name: parameter for name, parameter in own.items() if (node, name) not in has_flat}
            if rest or self._is_open(node):
                properties[node] = self._of_node(node, rest)
                required += [node] if any(parameter.required for parameter in rest.values()) else []
            elif self._envelope.is_open and node not in properties:  # it is a node's name, whatever others may be
                properties[node] = _object({name: parameter.schema for name, parameter in own.items()})
        if self._envelope.is_open:  # it takes any name, and one that several nodes take must still fit them all
            properties |= {flat: _merged(self._parameters(flat)) for flat in self._flat if flat not in properties}
        if self._context is not None:
            properties[WORKFLOW_CONTEXT] = self._context
        return _object(properties, required, self._envelope.is_open)

    def _other_names(self, flat: str) -> list[str]:
        """Return further names by which each parameter of a name can be given."""
        targets = set(self._flat[flat])
        return [name for name in self._published_flat if name != flat and targets <= set(self._flat[name])]


def _flat_names(nodes: Nodes, aliases: Aliases) -> Aliases:
    open_ = {(node, name) for node, name, _ in each_parameter(nodes)}
    flat = {alias: kept for alias, targets in aliases.items() if (kept := [each for each in targets if each in open_])}
    named = {target for targets in flat.values() for target in targets}
    shared: Aliases = {}
    for node, name, _ in each_parameter(nodes):
        if name not in flat and (node, name) not in named:
            shared.setdefault(name, []).append((node, name))
    return flat | shared


def _without_notes(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("description", "default", "title")}


def _merged(parameters: list[Parameter]) -> dict[str, Any]:
    """Return the schema of one name for several parameters; a default only if all have the same."""
    kinds = [kind for each in parameters if (kind := _without_notes(each.schema))]
    if any(kind != kinds[0] for kind in kinds):
        return {"allOf": kinds}
    merged = next((each.schema for each in parameters if _without_notes(each.schema)), parameters[0].schema)
    same = all(each.schema.get("default") == merged.get("default") for each in parameters)
    return merged if same else {key: value for key, value in merged.items() if key != "default"}


def _choice(names: list[str]) -> str:
    return f"One input with {len(names)} names; give one of them: {', '.join(sorted(names))}."


def _object(properties: dict[str, Any], required: list[str] | None = None, is_open: bool = False) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or [], "additionalProperties": is_open}


def _unknown(path: list[str], known: list[str]) -> dict[str, Any]:
    near = nearest(str(path[-1]), known)
    hint = (
        {"message": f'unknown name; did you mean "{near}"?', "nearest": near} if near else {"message": "unknown name"}
    )
    return {"pointer": pointer(path), **hint}
