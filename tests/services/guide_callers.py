"""One caller on three channels of a served platform, through the real protocols."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import httpx2

from nexus_core import NexusError

MCP_VERSION = "2026-07-28"
CHANNELS = ("api", "cli", "mcp")


@dataclass
class Answer:
    """What a caller learns: the reply of a success, or the problem details of an error."""

    reply: dict[str, Any]
    headers: Any = None

    @property
    def result(self) -> Any:
        return self.reply["result"]

    @property
    def code(self) -> str | None:
        return self.reply.get("code")


class Client:
    """Calls workflows as somebody.

    Args:
        urls: Each channel's URL.
        token: What it proves with who it is.
        session: The session that it names.
    """

    def __init__(self, urls: dict[str, str], token: str | None = None, session: str | None = None) -> None:
        self.urls = urls
        self.token = token
        self.session = session
        self.headers = {} if token is None else {"authorization": f"Bearer {token}"}
        if session is not None:
            self.headers["x-nexus-session"] = session

    async def call(self, channel: str, workflow: str, params: dict[str, Any], **headers: str) -> Answer:
        """Call a workflow through a channel."""
        return await getattr(self, channel)(workflow, params, **headers)

    async def http(self, method: str, path: str, channel: str = "api", **given: Any) -> httpx2.Response:
        """Send any request to a channel's port."""
        given["headers"] = {**self.headers, **given.get("headers", {})}
        async with httpx2.AsyncClient(timeout=30) as client:
            return await client.request(method, self.urls[channel] + path, **given)

    async def api(self, workflow: str, params: dict[str, Any], **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.http("POST", f"/api/workflows/{workflow}/execute", json=params, headers=sent)
        return Answer(answer.json(), answer.headers)

    async def cli(self, workflow: str, params: dict[str, Any], **_: str) -> Answer:
        """Call through the command line's own way to a server, in a thread; see `nexus` for a whole command line."""
        from nexus_cli.backends.backend import request_of
        from nexus_cli.backends.remote import RemoteBackend
        from nexus_cli.options import Options

        def call() -> dict[str, Any]:
            backend = RemoteBackend(self.urls["cli"])
            try:
                request = request_of("execute", workflow=workflow, params=params)
                return json.loads(backend.call(request, Options(token=self.token, session=self.session)))
            except NexusError as exc:
                return exc.problem()
            finally:
                backend.close()

        return Answer(await asyncio.to_thread(call))

    async def nexus(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command line in a process of its own; return its exit code, stdout and stderr."""
        where = ["--connect", self.urls["cli"], "--json"]
        where += ["--token", self.token] if self.token else []
        where += ["--session", self.session] if self.session else []
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus_core", *where, *arguments, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={k: v for k, v in os.environ.items() if not k.startswith("NEXUS_")},
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 50)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def mcp(self, workflow: str, params: dict[str, Any], **_: str) -> Answer:
        answer = await self.mcp_request("tools/call", name=workflow, arguments=params)
        if "error" in answer:
            return Answer(answer["error"]["data"])
        result = answer["result"]
        return Answer(result["_meta"]["nexus/error"] if result["isError"] else result["structuredContent"])

    async def mcp_request(self, method: str, meta: dict[str, Any] | None = None, **params: Any) -> Any:
        """Send one request without a session; return the JSON-RPC answer, or the problem of a refusal in front."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MCP_VERSION,
            "io.modelcontextprotocol/clientInfo": {"name": "guide", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
            **({"nexus/session": self.session} if self.session else {}),
            **(meta or {}),
        }
        headers = {"mcp-protocol-version": MCP_VERSION, "mcp-method": method,
                   "accept": "application/json, text/event-stream"}  # fmt: skip
        name = params.get("name") or params.get("uri")
        headers |= {"mcp-name": name} if name else {}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        answer = await self.http("POST", "/mcp", "mcp", json=body, headers=headers)
        if answer.headers["content-type"].startswith("text/event-stream"):
            datas = [line[5:] for line in answer.text.splitlines() if line.startswith("data:")]
            return json.loads(datas[-1])
        return answer.json()
