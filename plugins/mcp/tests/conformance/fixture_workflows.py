"""The fixtures that are workflows."""

from __future__ import annotations

import asyncio

from nexus_core import Context, Workflow, WorkflowError

SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

HEADER_SCHEMA = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}},
    "required": ["region"],
}


class Echo(Workflow):
    async def run(self, params, context):
        return params


def register_workflows(nexus):
    @nexus.workflow
    async def test_simple_text() -> str:
        """Return text."""
        return "This is a simple text response for testing."

    @nexus.workflow
    async def test_error_handling() -> str:
        """Fail."""
        raise WorkflowError("This tool intentionally returns an error for testing")

    @nexus.workflow
    async def test_tool_with_progress(context: Context) -> str:
        """Report progress."""
        for done in (0, 50, 100):
            context.progress(done, 100)
            await asyncio.sleep(0.05)
        return "done"

    @nexus.workflow
    async def test_trigger_tool_change() -> str:
        """Register a workflow and unregister it."""
        nexus.register("passing", Echo("passing", input_schema={"type": "object"}))
        nexus.unregister("passing")
        return "changed"

    for name, schema in (("json_schema_2020_12_tool", SCHEMA_2020_12), ("test_x_mcp_header", HEADER_SCHEMA)):
        nexus.register(name, Echo(name, input_schema=schema, description="Echo."))
