"""The requests of ``tools/call`` in both eras of MCP: without sessions (2026-07-28) and with (2025-11-25)."""

from __future__ import annotations

import http.client
import json
from typing import Any

from load import Load

CLIENT = {"name": "benchmark", "version": "1"}
ACCEPT = {"Accept": "application/json, text/event-stream"}
SESSIONS = 8
"""One for each connection of a load."""


def modern(port: int) -> Load:
    """Return sessionless calls."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": CLIENT,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {**ACCEPT, "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "add"}
    return Load(port, "/mcp", _call({"_meta": meta}), '"sum":%d}', headers)


def legacy(port: int) -> Load:
    """Open sessions and return calls in them."""
    headers = {**ACCEPT, "Mcp-Protocol-Version": "2025-11-25"}
    sessions = [{"Mcp-Session-Id": _open_session(port)} for _ in range(SESSIONS)]
    return Load(port, "/mcp", _call({}), '"sum":%d}', headers, sessions)


def _call(extra: dict[str, Any]) -> str:
    params = {"name": "add", "arguments": {"a": "%d", "b": 0}, **extra}
    request = {"jsonrpc": "2.0", "id": "%d", "method": "tools/call", "params": params}
    return json.dumps(request).replace('"%d"', "%d")


def _open_session(port: int) -> str:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
    session = _post(port, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, {})
    _post(port, {"jsonrpc": "2.0", "method": "notifications/initialized"}, {"Mcp-Session-Id": session})
    return session


def _post(port: int, message: dict[str, Any], headers: dict[str, str]) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        every = {**ACCEPT, "Content-Type": "application/json", **headers}
        connection.request("POST", "/mcp", json.dumps(message), every)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 202):
            raise RuntimeError(f"{message['method']} was answered with {answer.status}: {text[:500]!r}")
        return answer.headers.get("Mcp-Session-Id", "")
    finally:
        connection.close()
