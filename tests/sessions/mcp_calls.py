"""MCP requests of the sessionless era, so that each names its session itself."""

from __future__ import annotations

import json
from typing import Any

import httpx2

VERSION = "2026-07-28"


async def _ask(client: httpx2.AsyncClient, process: Any, method: str, name: str, params: dict[str, Any]) -> Any:
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    } | params.pop("_meta", {})
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
    headers = {
        "content-type": "application/json", "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSION, "mcp-method": method, "mcp-name": name,
    }  # fmt: skip
    reply = await client.post(process.urls["mcp"] + "/mcp", json=body, headers=headers)
    text = reply.text
    if reply.headers["content-type"].startswith("text/event-stream"):
        text = [line[5:] for line in text.splitlines() if line.startswith("data:")][-1]
    answer = json.loads(text)
    assert "error" not in answer, answer
    return answer["result"]


async def call(client: httpx2.AsyncClient, process: Any, tool: str, arguments: Any, session_id: str) -> Any:
    """Call a tool in a session."""
    params = {"name": tool, "arguments": arguments, "_meta": {"nexus/session": session_id}}
    return await _ask(client, process, "tools/call", tool, params)


async def read(client: httpx2.AsyncClient, process: Any, uri: str) -> Any:
    """Read a resource that is JSON."""
    result = await _ask(client, process, "resources/read", uri, {"uri": uri})
    return json.loads(result["contents"][0]["text"])
