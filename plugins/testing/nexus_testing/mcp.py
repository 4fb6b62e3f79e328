"""Requests and responses of MCP over HTTP (protocol version 2026-07-28), without a session."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

VERSION = "2026-07-28"
PATH = "/mcp"


def request(method: str, params: dict[str, Any], session: str | None) -> dict[str, Any]:
    """Return a POST request, as its arguments ``json`` and ``headers``."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "nexus-test-client", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    if session is not None:
        meta["nexus/session"] = session
    headers = {
        "mcp-protocol-version": VERSION, "mcp-method": method, "accept": "application/json, text/event-stream",
    }  # fmt: skip
    name = params.get("name", params.get("uri"))
    if name is not None:
        is_plain = name and name.isascii() and name.isprintable() and name == name.strip()
        headers["mcp-name"] = name if is_plain else f"=?base64?{b64encode(name.encode()).decode()}?="
    sent = {**params, "_meta": {**meta, **params.get("_meta", {})}}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": sent}
    return {"json": body, "headers": headers}


def answer(response: httpx2.Response) -> dict[str, Any]:
    """Return the JSON-RPC message of a response."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        lines = [line[5:] for line in response.text.splitlines() if line.startswith("data:")]
        return json.loads(lines[-1])  # type: ignore[no-any-return]
    return response.json()  # type: ignore[no-any-return]
