"""Every way in, as a caller with a token: each kind of access gives one `Seen`, the same whichever way it came."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from doors import LEGACY, MODERN
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

APP = Path(__file__).with_name("guarded_app.py")
_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


@dataclass
class Seen:
    """What a caller learns: a value, or the code of an error, with the run or workflow it may not know of left out."""

    value: Any = None
    code: str | None = None
    detail: str | None = None


def refused(problem: dict[str, Any]) -> Seen:
    return Seen(code=problem["code"], detail=problem["detail"])


class Rest:
    """HTTP requests to the API."""

    kinds = frozenset({"execute", "list", "describe", "runs", "run", "follow", "cancel", "session"})
    takes_a_process = False

    def __init__(self, urls: dict[str, str]) -> None:
        self.url = urls["api"]

    async def __call__(self, kind: str, what: str, token: str | None) -> Seen:
        method, path = {
            "execute": ("POST", f"/api/workflows/{what}/execute"),
            "session": ("POST", "/api/workflows/shared_by_all/execute"),
            "list": ("GET", "/api/workflows"),
            "describe": ("GET", f"/api/workflows/{what}"),
            "runs": ("GET", "/api/runs"),
            "run": ("GET", f"/api/runs/{what}"),
            "follow": ("GET", f"/api/runs/{what}/events"),
            "cancel": ("POST", f"/api/runs/{what}/cancel"),
        }[kind]
        headers = bearer(token) | ({"x-nexus-session": what} if kind == "session" else {})
        async with httpx2.AsyncClient(base_url=self.url, timeout=30) as client:
            reply = await client.request(method, path, headers=headers, json={} if method == "POST" else None)
        if reply.status_code >= 400:
            problem = reply.json()
            assert problem["status"] == reply.status_code
            assert ("www-authenticate" in reply.headers) == (reply.status_code == 401)
            return refused(problem)
        if kind == "follow":
            types = [line[7:] for line in reply.text.splitlines() if line.startswith("event: ")]
            return Seen(types[-1])
        return Seen(essence(kind, reply.json()))


class WebSocket:
    """Messages over one WebSocket."""

    kinds = frozenset({"execute", "follow", "session"})
    takes_a_process = False

    def __init__(self, urls: dict[str, str]) -> None:
        self.url = urls["api"].replace("http", "ws") + "/api/ws"

    async def __call__(self, kind: str, what: str, token: str | None) -> Seen:
        message = {"type": "follow", "run_id": what} if kind == "follow" else {"type": "execute"}
        if kind != "follow":
            message["workflow"] = "shared_by_all" if kind == "session" else what
        headers = bearer(token) | ({"x-nexus-session": what} if kind == "session" else {})
        try:
            async with connect(self.url, additional_headers=headers) as socket:
                await socket.send(json.dumps(message | {"id": 1}))
                while True:
                    reply = json.loads(await socket.recv())
                    if reply["type"] == "error":
                        return refused(reply["error"])
                    if reply["type"] == "result":
                        return Seen("workflow.completed" if kind == "follow" else reply["result"])
        except InvalidStatus as exc:  # the handshake is answered as a request is
            return refused(json.loads(exc.response.body))


class CommandLine:
    """The command line on the running server."""

    kinds = Rest.kinds
    takes_a_process = True

    def __init__(self, urls: dict[str, str]) -> None:
        self.where = ["--connect", urls["cli"]]

    async def __call__(self, kind: str, what: str, token: str | None) -> Seen:
        words = {
            "execute": ["execute", what],
            "session": ["--session", what, "execute", "shared_by_all"],
            "list": ["list"],
            "describe": ["describe", what],
            "runs": ["runs"],
            "run": ["runs", "show", what],
            "follow": ["runs", "follow", what],
            "cancel": ["runs", "cancel", what],
        }[kind]
        who = [] if token is None else ["--token", token]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus_core", *self.where, *who, "--json", *words, env=environment(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 40)
        if process.returncode:
            return refused(json.loads(err.decode().strip().splitlines()[-1]))
        if kind == "follow":
            return Seen("workflow.completed")
        return Seen(essence(kind, json.loads(out)))


class CommandLineInProcess(CommandLine):
    """The command line with the application in its own process."""

    kinds = frozenset({"execute", "list", "describe"})

    def __init__(self, urls: dict[str, str]) -> None:
        self.where = ["--app", f"{APP}:nexus"]


class Mcp:
    """JSON-RPC requests over streamable HTTP, complete in themselves."""

    kinds = frozenset({"execute", "list", "describe", "runs", "run", "cancel", "session"})
    takes_a_process = False

    def __init__(self, urls: dict[str, str]) -> None:
        self.url = urls["mcp"] + "/mcp"

    async def __call__(self, kind: str, what: str, token: str | None) -> Seen:
        method, params = request_of(kind, what)
        async with httpx2.AsyncClient(timeout=30) as client:
            reply = await self._send(client, method, params, bearer(token))
        assert ("www-authenticate" in reply.headers) == (reply.status_code == 401)
        return mcp_seen(kind, json.loads(last_message(reply)))

    async def _send(self, client: Any, method: str, params: dict[str, Any], who: dict[str, str]) -> Any:
        named = params.get("name") or params.get("uri")
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method} | ({"mcp-name": named} if named else {})
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = params | {"_meta": meta | params.get("_meta", {})}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await client.post(self.url, json=body, headers=_HEADERS | headers | who)


class McpSession(Mcp):
    """The same over a protocol session."""

    async def _send(self, client: Any, method: str, params: dict[str, Any], who: dict[str, str]) -> Any:
        opening = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello()}
        opened = await client.post(self.url, json=opening, headers=_HEADERS | who)
        if opened.status_code != 200:
            return opened
        headers = _HEADERS | who
        headers |= {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": LEGACY}
        await client.post(self.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = await client.post(self.url, json=body, headers=headers)
        await client.delete(self.url, headers=headers)
        return reply


class McpStdio:
    """A process of its own that speaks MCP on its standard streams, with the token in its environment."""

    kinds = frozenset({"execute", "list", "describe"})
    takes_a_process = True

    def __init__(self, urls: dict[str, str]) -> None:
        pass

    async def __call__(self, kind: str, what: str, token: str | None) -> Seen:
        method, params = request_of(kind, what)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus_core", "serve", "--stdio", f"{APP}:nexus",
            env=environment() | ({} if token is None else {"NEXUS_TOKEN": token}),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        messages = [
            {"id": 0, "method": "initialize", "params": hello()},
            {"method": "notifications/initialized"},
            {"id": 1, "method": method, "params": params},
        ]
        assert process.stdin is not None
        assert process.stdout is not None
        for message in messages:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        while (reply := json.loads(await asyncio.wait_for(process.stdout.readline(), 40))).get("id") != 1:
            pass
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)
        return mcp_seen(kind, reply)


def hello() -> dict[str, Any]:
    return {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}


def request_of(kind: str, what: str) -> tuple[str, dict[str, Any]]:
    """Return the MCP method and parameters of an access."""
    return {
        "execute": ("tools/call", {"name": what, "arguments": {}}),
        "session": ("tools/call", {"name": "shared_by_all", "arguments": {}, "_meta": {"nexus/session": what}}),
        "list": ("tools/list", {}),
        "describe": ("resources/read", {"uri": f"nexus://workflows/{what}"}),
        "run": ("resources/read", {"uri": f"nexus://runs/{what}"}),
        "runs": ("tools/call", {"name": "nexus_runs", "arguments": {"action": "list", "limit": 100}}),
        "cancel": ("tools/call", {"name": "nexus_runs", "arguments": {"action": "cancel", "run_id": what}}),
    }[kind]


def mcp_seen(kind: str, message: dict[str, Any]) -> Seen:
    if "error" in message:
        return refused(message["error"]["data"])
    result = message["result"]
    if result.get("isError"):
        return refused(result["_meta"]["nexus/error"])
    if kind in ("describe", "run"):
        return Seen(essence(kind, json.loads(result["contents"][0]["text"])))
    return Seen(essence(kind, result.get("structuredContent", result)))


def essence(kind: str, reply: dict[str, Any]) -> Any:
    """Return what the channels' replies to an access have in common."""
    match kind:
        case "list":
            names = [each["name"] for each in reply.get("workflows", reply.get("tools", ()))]
            return sorted(name for name in names if not name.startswith("nexus_"))  # MCP has tools of the platform's
        case "describe":
            return reply["name"], reply["input_schema"], reply["description"]
        case "runs":
            return [run["run_id"] for run in reply["runs"]]
        case "run":
            return reply["run_id"], reply["status"], reply["user_id"]
        case "cancel":
            return reply["run_id"], reply["cancelled"]
        case _:
            return reply["result"]


def last_message(reply: httpx2.Response) -> str:
    if reply.headers["content-type"].startswith("text/event-stream"):
        data = [line.removeprefix("data:").strip() for line in reply.text.splitlines() if line.startswith("data:")]
        return next(each for each in reversed(data) if each)
    return reply.text


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}


VISITORS = (Rest, WebSocket, CommandLine, CommandLineInProcess, Mcp, McpSession, McpStdio)
