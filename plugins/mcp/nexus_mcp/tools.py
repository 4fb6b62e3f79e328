"""Workflows as MCP tools, built once for each change of a workflow."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from nexus_core.errors import MalformedRequest
from nexus_core.schema.references import move_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.workflows.registry import Registry
    from nexus_core.workflows.workflow import Workflow

SESSION_ARGUMENT = "nexus_session"
"""The argument with the session of a call, of tools that can use a session."""

_SESSION = {
    "type": "string",
    "description": "The id of the session to run in, so that calls share state; the tool nexus_sessions creates one.",
}

WORKFLOW_KEY = "nexus/workflow"
"""Key of the workflow's name in ``_meta`` of a tool, if the tool has another name."""

PAGE_SIZE = 1000
"""Tools, or resources, in one page of a list."""

_CURSOR = "after:"


class Catalogue:
    """The registered workflows in name order, and their tools.

    Args:
        workflows: The registry. Call `changed` after each change of it.
    """

    def __init__(self, workflows: Registry) -> None:
        self._workflows = workflows
        self._every: list[Workflow] | None = None
        self._tools: dict[str, tuple[Workflow, dict[str, Any]]] = {}

    def changed(self, name: str) -> None:
        """Update after a workflow was registered, replaced or unregistered."""
        self._every = None
        self._tools.pop(name, None)

    def every(self) -> list[Workflow]:
        """Return all workflows in name order."""
        if self._every is None:
            self._every = sorted(self._workflows.every(), key=lambda workflow: workflow.name)
        return self._every

    def tool(self, workflow: Workflow) -> dict[str, Any]:
        """Return a workflow as the protocol's ``Tool`` object."""
        known = self._tools.get(workflow.name)
        if known is not None and known[0] is workflow:
            return known[1]
        tool = _tool(workflow)
        self._tools[workflow.name] = (workflow, tool)
        return tool

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        """Return the schema of a tool's arguments, by its name or its workflow's, or None if it does not exist."""
        workflow = self._workflows.find(self._workflows.name_of_tool(name))
        return None if workflow is None else _arguments(workflow)


def page(workflows: list[Workflow], cursor: str | None) -> tuple[list[Workflow], str | None]:
    """Return one page of workflows and the cursor of the next, if there is one.

    A cursor names the last workflow of its page, so pages stay in order while workflows come and go.

    Args:
        workflows: Workflows that the caller may see, in name order: pages and cursors reveal no others.
        cursor: The cursor of the page before; None for the first page.

    Raises:
        MalformedRequest: The cursor is invalid.
    """
    start = 0
    if cursor is not None:
        if not cursor.startswith(_CURSOR):
            raise MalformedRequest("The cursor is invalid: use nextCursor of the page before.")
        last = cursor.removeprefix(_CURSOR)
        start = bisect_right(workflows, last, key=lambda workflow: workflow.name)
    chosen = workflows[start : start + PAGE_SIZE]
    more = start + PAGE_SIZE < len(workflows)
    return chosen, _CURSOR + chosen[-1].name if more else None


def _tool(workflow: Workflow) -> dict[str, Any]:
    tool: dict[str, Any] = {
        "name": workflow.tool_name,
        "description": workflow.help,
        "inputSchema": _arguments(workflow),
        "outputSchema": reply_schema(workflow.output_schema),
    }
    if isinstance(title := workflow.metadata.get("title"), str):
        tool["title"] = title
    if workflow.tool_name != workflow.name:
        tool.setdefault("title", workflow.name)
        tool["_meta"] = {WORKFLOW_KEY: workflow.name}
    return tool


def takes_session(workflow: Workflow | None) -> bool:
    """Return whether the tool has the argument `SESSION_ARGUMENT`: the workflow has no parameter of that name."""
    return (
        workflow is not None
        and workflow.uses_context
        and SESSION_ARGUMENT not in workflow.input_schema.get("properties", {})
    )


def _arguments(workflow: Workflow) -> Mapping[str, Any]:
    if not takes_session(workflow):
        return workflow.input_schema
    properties = workflow.input_schema.get("properties", {})
    return {**workflow.input_schema, "properties": {**properties, SESSION_ARGUMENT: _SESSION}}


def reply_schema(output_schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the schema of a reply: ``{"result": ..., "run_id": ...}``, around the schema of a result.

    A run in the background has no result yet: ``{"run_id": ..., "status": ..., "workflow": ...}``.
    """
    result, definitions = move_schema(output_schema or {}, "#/properties/result", "#/$defs/")
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "result": result,
            "run_id": {"type": "string", "description": "The run's id: nexus://runs/{run_id} is its resource."},
            "cached": {"type": "boolean", "description": "Whether the result comes from the cache."},
            "replayed": {
                "type": "boolean",
                "description": "Whether the result is that of an earlier call with the same key.",
            },
            "status": {"type": "string", "description": "Status of a run that has no result yet."},
            "workflow": {"type": "string"},
        },
        "required": ["run_id"],
        "anyOf": [{"required": ["result"]}, {"required": ["status"]}],
    }
    if definitions:
        schema["$defs"] = definitions
    return schema
