"""Which parameters callers may give: everything open, or what the workflow's author has named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError
from nexus_core.schema.expected import from_expected_parameters
from nexus_core.text import nearest
from nexus_kailash._vendor_internals import workflow_inputs
from nexus_kailash.parameters import Nodes, Parameter, each_parameter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

Aliases = dict[str, list[tuple[str, str]]]
"""The node parameters behind a name of the author's own."""


def aliases(workflow: Workflow, nodes: Nodes) -> Aliases:
    """Return the names that ``WorkflowBuilder.add_workflow_inputs`` has given to node parameters.

    Raises:
        ConfigurationError: A name stands for a parameter that the node does not take from outside.
    """
    found: Aliases = {}
    for node, mapping in workflow_inputs(workflow).items():
        for alias, parameter in mapping.items():
            if parameter not in nodes.get(node, {}):
                raise _unknown(
                    f'the workflow input "{alias}" names "{node}.{parameter}"', parameter, nodes.get(node, {})
                )
            found.setdefault(alias, []).append((node, parameter))
    return found


def allowed(nodes: Nodes, named: Aliases, expected: Mapping[str, Any] | None, open_nodes: Collection[str]) -> Nodes:
    """Return the parameters that callers may give.

    Args:
        nodes: All parameters of the workflow that no connection feeds.
        named: See `aliases`. What has a name may be given even where it is configured.
        expected: ``metadata["expected_parameters"]``. If there is any, only what it names may be given.
        open_nodes: The nodes that take parameters of any name.

    Raises:
        ConfigurationError: It names a parameter that no node has, or lacks one that must be given.
    """
    if not expected:
        targets = {target for several in named.values() for target in several}
        return {
            node: {name: each for name, each in own.items() if not each.configured or (node, name) in targets}
            for node, own in nodes.items()
        }
    chosen: Nodes = {node: {} for node in nodes}
    for node, name, schema, required in _entries(nodes, named, expected, open_nodes):
        own = nodes[node].get(name) or Parameter()
        needed = required or (own.required and "default" not in schema)
        chosen[node][name] = Parameter(own.schema | schema, needed, own.configured, "default" in schema, own.setting)
    for node, name, parameter in each_parameter(nodes):
        if parameter.required and name not in chosen[node]:
            raise ConfigurationError(
                f'the node "{node}" needs "{name}": configure it, connect it, or add it to expected_parameters.'
            )
    return chosen


def left_to_callers(nodes: Nodes, named: Aliases) -> list[str]:
    """Return the settings of library nodes that callers must give although the author has not named them."""
    targets = {target for several in named.values() for target in several}
    return [
        f"{node}.{name} ({parameter.setting})"
        for node, name, parameter in each_parameter(nodes)
        if parameter.setting and not parameter.configured and (node, name) not in targets
    ]


def _entries(
    nodes: Nodes, named: Aliases, expected: Mapping[str, Any], open_nodes: Collection[str]
) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """Yield node, parameter, schema and whether it is required, for all that is expected."""
    schema = from_expected_parameters(expected)
    for key, entry in schema["properties"].items():
        if key in nodes and "properties" in entry:
            for name, part in entry["properties"].items():
                if name not in nodes[key] and key not in open_nodes:
                    raise _unknown(f'expected_parameters names "{key}.{name}"', name, nodes[key])
                yield key, name, part, name in entry.get("required", ())
        else:
            for node, name in _targets(key, nodes, named, open_nodes):
                yield node, name, entry, key in schema["required"]


def _targets(name: str, nodes: Nodes, named: Aliases, open_nodes: Collection[str]) -> list[tuple[str, str]]:
    if name in named:
        return named[name]
    found = [(node, name) for node, parameters in nodes.items() if name in parameters]
    found = found or [(node, name) for node in open_nodes]
    if not found:
        known = [*named, *(each for _, each, _ in each_parameter(nodes))]
        raise _unknown(f'expected_parameters names "{name}"', name, dict.fromkeys(known))
    return found


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> ConfigurationError:
    near = nearest(name, list(known))
    hint = f' Did you mean "{near}"?' if near else ""
    return ConfigurationError(f"{what}, which no node takes from outside.{hint}")
