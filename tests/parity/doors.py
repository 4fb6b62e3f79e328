"""Every door to the same platform: each takes a workflow and the text of its parameters, and gives one `Answer`."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import httpx2
from websockets.asyncio.client import connect

from nexus_core import Nexus, NexusError
from nexus_core.jsontext import parse_object

MODERN, LEGACY = "2026-07-28", "2025-11-25"
_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


@dataclass
class Answer:
    """What a caller learns: a value, or an error with its fields."""

    value: Any = None
    code: str | None = None
    detail: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def refusal(cls, problem: dict[str, Any]) -> Answer:
        return cls(code=problem["code"], detail=problem["detail"], errors=problem.get("errors", []))


class Rest:
    name = "rest"

    def __init__(self, urls: dict[str, str]) -> None:
        self.url = urls["api"]

    async def call(self, workflow: str, params: str) -> Answer:
        async with httpx2.AsyncClient() as client:
            url = f"{self.url}/api/workflows/{workflow}/execute"
            reply = await client.post(url, content=params.encode(), headers={"content-type": "application/json"})
        body = reply.json()
        if reply.status_code != 200:
            assert body["status"] == reply.status_code
            return Answer.refusal(body)
        return Answer(body["result"])


class WebSocket:
    name = "websocket"

    def __init__(self, urls: dict[str, str]) -> None:
        self.url = urls["api"].replace("http", "ws") + "/api/ws"

    async def call(self, workflow: str, params: str) -> Answer:
        message = f'{{"type": "execute", "id": 1, "workflow": {json.dumps(workflow)}, "params": {params or "{}"}}}'
        async with connect(self.url) as socket:
            await socket.send(message)
            while True:
                reply = json.loads(await socket.recv())
                if reply["type"] == "error":
                    return Answer.refusal(reply["error"])
                if reply["type"] == "result":
                    return Answer(reply["result"])


class CommandLine:
    """The command line as a process of its own, on the running server."""

    name = "cli"

    def __init__(self, urls: dict[str, str]) -> None:
        self.url = urls["cli"]

    async def call(self, workflow: str, params: str) -> Answer:
        arguments = ["--connect", self.url, "--json", "execute", workflow, "--data", params]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus_core", *arguments, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={k: v for k, v in os.environ.items() if not k.startswith("NEXUS_")},
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 30)
        if process.returncode == 0:
            return Answer(json.loads(out)["result"])
        problem = json.loads(err.decode().strip().splitlines()[-1])
        return Answer.refusal(problem)


class Mcp:
    """One JSON-RPC request over streamable HTTP, without a session, so that the text reaches the server as it is."""

    name = "mcp"

    def __init__(self, urls: dict[str, str]) -> None:
        self.url = urls["mcp"] + "/mcp"

    async def call(self, workflow: str, params: str) -> Answer:
        async with httpx2.AsyncClient() as client:
            return await self._send(client, workflow, params)

    async def _send(self, client: httpx2.AsyncClient, workflow: str, params: str) -> Answer:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        named = json.dumps(workflow)
        body = (
            f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": '
            f'{{"name": {named}, "arguments": {params or "{}"}, "_meta": {json.dumps(meta)}}}}}'
        )
        headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": _header(workflow)}
        return _mcp_answer(await client.post(self.url, content=body.encode(), headers=_HEADERS | headers))


class McpSession(Mcp):
    """The same over a protocol session."""

    name = "mcp session"

    async def _send(self, client: httpx2.AsyncClient, workflow: str, params: str) -> Answer:
        hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
        opening = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
        opened = await client.post(self.url, json=opening, headers=_HEADERS)
        headers = _HEADERS | {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": LEGACY}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await client.post(self.url, json=ready, headers=headers)
        body = (
            f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": '
            f'{{"name": {json.dumps(workflow)}, "arguments": {params or "{}"}}}}}'
        )
        answer = _mcp_answer(await client.post(self.url, content=body.encode(), headers=headers))
        await client.delete(self.url, headers=headers)
        return answer


def _header(name: str) -> str:
    if name.isascii() and name.isprintable():
        return name
    return f"=?base64?{base64.b64encode(name.encode()).decode()}?="


def _mcp_answer(reply: httpx2.Response) -> Answer:
    text = reply.text
    if reply.headers["content-type"].startswith("text/event-stream"):
        data = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
        text = next(each for each in reversed(data) if each)
    message = json.loads(text)
    if "error" in message:
        return Answer.refusal(message["error"]["data"])
    result = message["result"]
    if result.get("isError"):
        return Answer.refusal(result["_meta"]["nexus/error"])
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]["result"]
    return Answer(result["structuredContent"]["result"])


class Python:
    """The platform itself, for comparison."""

    name = "python"

    def __init__(self, nexus: Nexus) -> None:
        self.nexus = nexus

    async def call(self, workflow: str, params: str) -> Answer:
        try:
            result = await self.nexus.invoke(workflow, parse_object(params.encode(errors="surrogatepass")))
        except NexusError as exc:
            return Answer.refusal(json.loads(json.dumps(exc.problem())))
        return Answer(result.value)


DOORS = (Rest, WebSocket, CommandLine, Mcp, McpSession)
