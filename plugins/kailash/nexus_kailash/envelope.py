"""The two inputs that the SDK's own channels bind for every workflow: ``parameters`` and ``workflow_context``.

A node that reads ``parameters.get("city")`` is given all that the caller has sent, as one mapping. The names that it
reads are published like those of a node called ``parameters``. ``workflow_context`` is what nodes read by
``get_workflow_context``; callers may send its first content where a node does so.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexus_kailash._vendor_internals import workflow_inputs
from nexus_kailash.parameters import Nodes, Parameter, called

if TYPE_CHECKING:
    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

PARAMETERS = "parameters"
WORKFLOW_CONTEXT = "workflow_context"
_READS_CONTEXT = "get_workflow_context"


@dataclass(slots=True)
class Envelope:
    """Who takes the mapping, and what it may hold.

    Attributes:
        takers: The nodes that read it.
        is_open: Whether it may hold any name: a node does more with it than to read members by name.
    """

    takers: list[str] = field(default_factory=list)
    is_open: bool = False


def take_envelope(workflow: Workflow, nodes: Nodes) -> Envelope:
    """Replace the parameter ``parameters`` of nodes with code by the names that they read from it.

    Args:
        workflow: The workflow.
        nodes: The parameters of each node; the names are put there under ``parameters``.
    """
    found = Envelope()
    named = workflow_inputs(workflow)
    if PARAMETERS in workflow.nodes or any(PARAMETERS in mapping for mapping in named.values()):
        return found
    names: dict[str, Parameter] = {}
    for node_id, own in nodes.items():
        node: Any = workflow.get_node(node_id)
        parameter = own.get(PARAMETERS)
        if parameter is None or parameter.configured or PARAMETERS in named.get(node_id, {}).values():
            continue
        if (code := getattr(node, "code", None)) or called(node) is not None:
            del own[PARAMETERS]
            found.takers.append(node_id)
            read = _members(code) if code else None
            found.is_open |= read is None
            for name, needed in (read or {}).items():
                names[name] = Parameter(required=needed or (name in names and names[name].required))
    if found.takers:
        nodes[PARAMETERS] = names
    return found


def reads_workflow_context(workflow: Workflow) -> bool:
    """Whether a node reads what is kept for the run, so that callers may send the first of it."""
    if WORKFLOW_CONTEXT in workflow.nodes:
        return False
    return any(_reads_context(workflow.get_node(node_id)) for node_id in workflow.nodes)


def _reads_context(node: Any) -> bool:
    if code := getattr(node, "code", None):
        return _READS_CONTEXT in code
    methods = (getattr(type(node), name, None) for name in ("run", "async_run"))
    return any(_READS_CONTEXT in each.__code__.co_names for each in methods if inspect.isfunction(each))


def _members(code: str) -> dict[str, bool] | None:
    """Return the names that code reads from ``parameters``, and which it needs; None if that can't be told."""
    tree = ast.parse(code)
    read: dict[str, bool] = {}
    explained = 0
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(ast.Name("parameters"), "get"), [ast.Constant(str(name)), *_]):
                read[name] = False
            case ast.Compare(ast.Constant(str(name)), [ast.In() | ast.NotIn()], [ast.Name("parameters")]):
                read[name] = False
            case ast.Subscript(ast.Name("parameters"), ast.Constant(str(name)), ast.Load()):
                read.setdefault(name, True)
            case _:
                continue
        explained += 1
    uses = sum(isinstance(node, ast.Name) and node.id == PARAMETERS for node in ast.walk(tree))
    return read if uses == explained else None
