"""Turns builders into workflows and finds at registration what would otherwise fail in each run."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError
from nexus_core.text import nearest
from nexus_kailash.cycles import check_cycles
from nexus_kailash.library import require_node
from nexus_kailash.parameters import accepts_any, called, connected, names, placeholders

if TYPE_CHECKING:
    from kailash.workflow.builder import WorkflowBuilder  # type: ignore[import-untyped]
    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]


def build_workflow(name: str, builder: WorkflowBuilder) -> Workflow:
    """Build a workflow, importing the library's nodes that it names.

    Raises:
        ConfigurationError: A node is unknown, can't be imported or refuses its configuration.
    """
    for node_id, node in builder.nodes.items():
        if "class" not in node and "instance" not in node:
            try:
                require_node(node["type"])
            except ConfigurationError as exc:
                raise ConfigurationError(f'{name}: node "{node_id}": {exc}') from exc.__cause__
    try:
        return builder.build(name=name)
    except Exception as exc:
        raise ConfigurationError(f"{name}: Kailash can't build it: {_reason(exc)}") from exc


def check_workflow(name: str, workflow: Workflow) -> None:
    """Check that all connections of a workflow lead somewhere.

    What a node needs and does not get from its configuration or a connection is not missing: callers give it.

    Raises:
        ConfigurationError: It has no node, a cycle, code or a function that Kailash does not run (a cycle that is not
            marked as one, or has no ``max_iterations``), or a connection to an input that its node does not have.
    """
    if not workflow.nodes:
        raise ConfigurationError(f"{name}: the workflow has no node.")
    try:
        workflow.get_execution_order()
    except Exception as exc:
        raise ConfigurationError(f"{name}: {_reason(exc)}") from exc
    if workflow.has_cycles():
        try:
            check_cycles(workflow)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{name}: {exc}") from None
    for node_id in workflow.nodes:
        _check_connections(name, node_id, workflow)
        _check_code(name, node_id, workflow.get_node(node_id))
        _check_function(name, node_id, workflow.get_node(node_id))


def _check_code(name: str, node_id: str, node: Any) -> None:
    """Let Kailash's own check refuse now what it would refuse in each run."""
    code, check = getattr(node, "code", None), getattr(getattr(node, "executor", None), "check_code_safety", None)
    if code and check and getattr(node, "sandbox_mode", "") != "trusted":
        try:
            check(code)
        except Exception as exc:
            raise ConfigurationError(f'{name}: node "{node_id}": {_reason(exc)}') from exc


def _check_function(name: str, node_id: str, node: Any) -> None:
    """Refuse functions that Kailash calls and whose value it never sees, or that it can't call."""
    function = called(node)
    if function is None:
        return
    where = f'{name}: node "{node_id}": {getattr(function, "__name__", function)!r}'
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{where} is async, which {type(node).__name__} does not wait for.")
    if inspect.isgeneratorfunction(function):
        raise ConfigurationError(f"{where} is a generator, which {type(node).__name__} does not read; return a list.")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL) and parameter.name != "self":
            raise ConfigurationError(f'{where} takes "{parameter.name}" by position; Kailash passes all by name.')


def _check_connections(name: str, node_id: str, workflow: Workflow) -> None:
    node: Any = workflow.get_node(node_id)
    if accepts_any(node):
        return
    known = {name for declared in node.get_parameters().values() for name in names(declared)}
    known |= placeholders(node.config)
    for source, target in connected(workflow, node_id):
        if target not in known:
            near = nearest(target, sorted(known))
            hint = f' Did you mean "{near}"?' if near else ""
            raise ConfigurationError(
                f'{name}: "{source}" is connected to "{node_id}.{target}", which "{node_id}" does not have.{hint}'
            )


def _reason(exc: Exception) -> str:
    return " ".join(str(exc).split("\n\nSee: ")[0].split())
