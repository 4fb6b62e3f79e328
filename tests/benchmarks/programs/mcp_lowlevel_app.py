"""The least that a server on the MCP SDK's low-level ``Server`` can do for the same answer."""

from __future__ import annotations

import json
from typing import Any

import mcp.types as types
from common import arguments
from hypercorn_settings import serve
from mcp.server import Server

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    """Name the one tool."""
    return types.ListToolsResult(tools=[types.Tool(name="add", description="Add two numbers.", input_schema=SCHEMA)])


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Add two numbers."""
    given = params.arguments or {}
    value = {"sum": given["a"] + given["b"]}
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=json.dumps(value))], structured_content=value
    )


if __name__ == "__main__":
    server: Server[Any] = Server(
        "bare", version="1", get_tool_input_schema=lambda name: SCHEMA, on_list_tools=list_tools, on_call_tool=call_tool
    )
    serve(server.streamable_http_app(streamable_http_path="/mcp"), arguments().port)
