"""One budget for all channels of a served platform, with real clients."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

import httpx2
import nexus_ratelimit.plugin
import pytest
from nexus_api.plugin import ApiPlugin
from nexus_cli.plugin import CliPlugin
from nexus_hypercorn.plugin import HypercornPlugin
from nexus_mcp.plugin import McpPlugin
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nexus_core import Nexus

CHANNELS = [ApiPlugin, CliPlugin, McpPlugin, HypercornPlugin, nexus_ratelimit.plugin.RateLimitPlugin]
MCP_VERSION = "2026-07-28"


class Clients:
    """Calls a workflow through each channel, and gives the error's problem details, or None."""

    def __init__(self, urls, client):
        self.urls = urls
        self.client = client
        self.reply = None

    async def _post(self, url, body, headers):
        self.reply = await self.client.post(url, json=body, headers=headers)
        return self.reply

    async def rest(self, **headers):
        reply = await self._post(f"{self.urls['api']}/api/workflows/stock/execute", {"sku": "A"}, headers)
        return None if reply.status_code == 200 else reply.json()

    async def listing(self, **headers):
        self.reply = await self.client.get(f"{self.urls['api']}/api/workflows", headers=headers)
        return None if self.reply.status_code == 200 else self.reply.json()

    async def command_line(self, **headers):
        asked = {"command": "execute", "workflow": "stock", "params": {"sku": "A"}}
        reply = await self._post(f"{self.urls['cli']}/cli", asked, headers)
        return json.loads(reply.text.splitlines()[-1]).get("error")

    async def mcp(self, **headers):
        meta = {
            "io.modelcontextprotocol/protocolVersion": MCP_VERSION,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "stock", "arguments": {"sku": "A"}, "_meta": meta}
        told = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MCP_VERSION,
            "mcp-method": "tools/call",
            "mcp-name": "stock",
        }
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        reply = await self._post(f"{self.urls['mcp']}/mcp", asked, told | headers)
        text = reply.text
        if reply.headers["content-type"].startswith("text/event-stream"):
            text = next(line[5:] for line in text.splitlines() if line.startswith("data:") and len(line) > 6)
        message = json.loads(text)
        if "error" in message:
            return message["error"]["data"]
        result = message["result"]
        return result["_meta"]["nexus/error"] if result.get("isError") else None

    async def websocket(self, **headers):
        url = self.urls["api"].replace("http", "ws") + "/api/ws"
        try:
            async with connect(url, additional_headers=headers) as socket:
                await socket.send('{"type": "execute", "id": 1, "workflow": "stock", "params": {"sku": "A"}}')
                while True:
                    reply = json.loads(await socket.recv())
                    if reply["type"] in ("error", "result"):
                        return reply.get("error")
        except InvalidStatus as exc:  # the handshake counts as a request
            return json.loads(exc.response.body)


@asynccontextmanager
async def served(*plugins, **options):
    ports = {"api_port": 0, "cli_port": 0, "mcp_port": 0}
    nexus = Nexus(discover=False, plugins=[*CHANNELS, *plugins], enable_rate_limiting=True, **ports, **options)

    @nexus.workflow
    async def stock(sku: str) -> int:
        return 7

    async with nexus.serving() as listeners, httpx2.AsyncClient() as client:
        yield Clients({name: each.url for each in listeners for name in each.channels}, client)


@pytest.mark.parametrize("headers", [{}, {"authorization": "good ann"}], ids=["address", "user"])
async def test_one_budget_for_all_channels(headers, door):
    plugins = [door] if headers else []
    async with served(*plugins, rate_limit_per_minute=7) as clients:
        ways = [clients.rest, clients.command_line, clients.mcp, clients.rest, clients.command_line, clients.mcp]
        for way in ways:
            assert await way(**headers) is None
        assert await clients.rest(**headers) is None
        assert "r=0" in clients.reply.headers["ratelimit"]
        problems = [await way(**headers) for way in (clients.rest, clients.command_line, clients.mcp)]
        for problem in problems:
            assert problem["code"] == "rate_limited"
            assert problem["detail"] == "Too many calls: rate_limit_per_minute allows 7 in 60 seconds."
            assert (problem["limit"], problem["window"], problem["remaining"]) == (7, 60.0, 0)
            assert 0 < problem["reset"] == problem["retry_after"] <= 120
        assert (await clients.listing(**headers))["code"] == "rate_limited"
        assert clients.reply.status_code == 429
        assert 1 <= int(clients.reply.headers["retry-after"]) <= 120
        if headers:
            assert await clients.rest(authorization="good bob") is None


async def test_calls_over_a_websocket_count_one_by_one():
    async with served(rate_limit_per_minute=3) as clients:
        assert await clients.websocket() is None
        refused = [await clients.websocket() for _ in range(4)][-1]
        assert (refused["code"], refused["remaining"]) == ("rate_limited", 0)


async def test_the_command_line_ends_with_75():
    async with served(rate_limit_per_minute=1) as clients:
        assert await clients.rest() is None
        arguments = ["--connect", clients.urls["cli"], "--json", "execute", "stock", "--data", '{"sku": "A"}']
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus_core", *arguments, stderr=asyncio.subprocess.PIPE, env=environment
        )
        _, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 75, err.decode()
        problem = json.loads(err.decode().splitlines()[-1])
        assert (problem["code"], problem["limit"], problem["remaining"]) == ("rate_limited", 1, 0)


async def test_forwarding_headers_count_only_from_a_proxy_that_is_named():
    ways = ("rest", "command_line", "mcp")
    async with served(rate_limit_per_minute=3) as clients:
        refused = [await getattr(clients, ways[n % 3])(**{"x-forwarded-for": f"1.2.3.{n}"}) for n in range(6)]
        assert [each is None for each in refused] == [True] * 3 + [False] * 3
        for name in ("forwarded", "x-real-ip"):
            assert await clients.rest(**{name: "for=1.2.3.4"}) is not None
    async with served(rate_limit_per_minute=3, trusted_proxies=["127.0.0.0/8"]) as clients:
        for client in ("1.2.3.4", "1.2.3.5"):
            for way in ways:
                assert await getattr(clients, way)(**{"x-forwarded-for": f"9.9.9.9, {client}"}) is None
            assert (await clients.rest(forwarded=f"for={client}"))["code"] == "rate_limited"


async def test_wrong_credentials_are_counted_on_all_channels_together(door):
    async with served(door, auth_failures_per_minute=3) as clients:
        assert await clients.rest(authorization="good ann") is None
        ways = [clients.rest, clients.command_line, clients.mcp, clients.listing, clients.command_line, clients.mcp]
        codes = [(await way(authorization=f"guess {n}"))["code"] for n, way in enumerate(ways)]
        assert codes == ["authentication_failed"] * 3 + ["rate_limited"] * 3
        assert (await clients.rest(authorization="good bob"))["code"] == "rate_limited"
        assert await clients.rest(authorization="good ann") is None
