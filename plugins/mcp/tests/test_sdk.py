"""What the channel relies on inside the MCP library: a new version must keep it, or the channel must change."""

from __future__ import annotations

import time

import httpx2
import pytest
from nexus_mcp.http import _HANDSHAKE_VERSIONS
from nexus_mcp.plugin import McpPlugin
from nexus_mcp.settings import McpSettings


async def transport_of(nexus):
    return await nexus.channel("mcp")._transport()


def test_versions_with_sessions_are_the_librarys():
    from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

    assert {version.decode() for version in _HANDSHAKE_VERSIONS} == set(HANDSHAKE_PROTOCOL_VERSIONS)


async def test_open_sessions_can_be_counted_and_ended(build, kit):
    nexus = build()
    async with kit.serving(nexus) as address:
        transport = await transport_of(nexus)
        assert transport.sessions == 0
        async with kit.connected(address, "legacy"), kit.connected(address, "legacy"):
            assert transport.sessions == 2
        await kit.until(lambda: transport.sessions == 0)
        async with httpx2.AsyncClient(headers=kit.accept) as http:
            opened = await http.post(address, json=kit.initialize())
            await transport.drain()
            headers = {"mcp-session-id": opened.headers["mcp-session-id"]}
            ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            assert (await http.post(address, json=ping, headers=headers)).status_code == 404


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_a_sessions_connection_is_forgotten_with_it(build, kit):
    nexus = build()
    async with kit.serving(nexus) as address:
        announcements = (await transport_of(nexus)).server.announcements
        async with kit.connected(address, "legacy") as client:
            await client.subscribe_resource("nexus://workflows/add")
            await kit.until(lambda: len(announcements._connections) == 1)
            assert len(announcements._subscribers) == 1
        await kit.until(lambda: not announcements._connections)
        assert not announcements._subscribers


@pytest.mark.parametrize("handler", ["list_tools", "read_resource", "call_tool"])
async def test_unforeseen_exceptions_do_not_leak(build, kit, era, monkeypatch, handler):
    from mcp import MCPError

    nexus = build()
    async with kit.serving(nexus) as address:
        server = (await transport_of(nexus)).server

        async def fail(ctx, params):
            raise RuntimeError("the secret")

        from dataclasses import replace

        method = {"list_tools": "tools/list", "read_resource": "resources/read", "call_tool": "tools/call"}[handler]
        monkeypatch.setitem(server._request_handlers, method, replace(server._request_handlers[method], handler=fail))
        async with kit.connected(address, era) as client:
            asked = {
                "list_tools": client.list_tools,
                "read_resource": lambda: client.read_resource("nexus://workflows/add"),
                "call_tool": lambda: client.call_tool("add", {"a": 1}),
            }
            with pytest.raises(MCPError) as caught:
                await asked[handler]()
            assert caught.value.error.code == -32603
            assert "secret" not in str(caught.value.error)


async def test_a_failed_import_is_tried_again(build, kit, monkeypatch):
    import nexus_mcp.channel

    nexus = build()
    async with kit.serving(nexus) as address, httpx2.AsyncClient(headers=kit.accept) as http:
        with monkeypatch.context() as patch:
            patch.setattr(nexus_mcp.channel, "_import_library", _fail)
            assert (await http.post(address, json=kit.initialize())).status_code == 500
        assert (await http.post(address, json=kit.initialize())).status_code == 200


def _fail():
    raise ImportError("no such library")


async def test_a_call_does_not_list_the_tools(build, kit, era):
    """The cost of a call must not grow with the number of workflows."""

    async def one() -> int:
        return 1

    def register(nexus, count):
        for number in range(count):
            nexus.register(f"n{number}", one)

    async def seconds(nexus):
        async with kit.serving(nexus) as address:
            server = (await transport_of(nexus)).server
            pages = []
            every = server.catalogue.every
            server.catalogue.every = lambda: pages.append(1) or every()
            async with kit.connected(address, era) as client:
                begin = time.perf_counter()
                for _ in range(20):
                    await client.call_tool("add", {"a": 1})
                took = time.perf_counter() - begin
            return took, len(pages)

    few, many = build(), build()
    register(many, 3000)
    (_, pages_of_few), (_, pages_of_many) = await seconds(few), await seconds(many)
    assert pages_of_few == pages_of_many <= 1  # the client lists once, to check results


def test_the_plugin_gives_one_channel(build):
    nexus = build()
    (channel,) = McpPlugin(nexus, nexus.settings(McpSettings)).nexus_register_channels()
    assert (channel.name, channel.port, channel.port_option, tuple(channel.paths)) == ("mcp", 0, "mcp_port", ("/mcp",))
