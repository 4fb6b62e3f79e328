"""Resources, and what clients hear of changes."""

from __future__ import annotations

import json

import anyio
import pytest
from mcp import MCPError, types
from mcp.server.subscriptions import ResourceUpdated, ToolsListChanged

from nexus_core import Caller


async def test_workflows_are_resources(client):
    resources = {each.name: each for each in (await client.list_resources()).resources}
    assert list(resources) == sorted(resources)
    assert str(resources["add"].uri) == "nexus://workflows/add"
    content = (await client.read_resource("nexus://workflows/add")).contents[0]
    assert content.mime_type == "application/json"
    described = json.loads(content.text)
    assert described["name"] == "add"
    assert described["input_schema"]["required"] == ["a"]


async def test_runs_are_resources(client):
    called = await client.call_tool("add", {"a": 1})
    run_id = called.structured_content["run_id"]
    run = json.loads((await client.read_resource(f"nexus://runs/{run_id}")).contents[0].text)
    assert (run["run_id"], run["workflow"], run["status"], run["channel"]) == (run_id, "add", "completed", "mcp")


async def test_templates_name_all(client):
    templates = (await client.list_resource_templates()).resource_templates
    names = ("workflows/{name}", "runs/{run_id}", "sessions/{session_id}")
    every = [*(f"nexus://{name}" for name in names), "nexus://events{?after}"]
    assert [each.uri_template for each in templates] == every


@pytest.mark.parametrize(
    "uri", ["nexus://workflows/nothing", "nexus://runs/nothing", "nexus://sessions/nothing", "file:///etc/passwd"]
)
async def test_unknown_resource(client, uri):
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    assert caught.value.error.code == -32602
    assert caught.value.error.data["uri"] == uri


async def test_sessions_are_resources(build, kit, era):
    nexus = build()
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        store = await nexus.session_store()
        session = await store.create("python")
        called = await client.call_tool("where", {}, meta={"nexus/session": session.id})
        assert called.structured_content["result"] == {"channel": "mcp", "session": session.id}
        content = (await client.read_resource(f"nexus://sessions/{session.id}")).contents[0]
        shown = json.loads(content.text)
        assert shown["session_id"] == session.id
        assert shown["active_channels"] == ["mcp", "python"]


def both(nexus):
    nexus.register("late", lambda: 1)
    nexus.unregister("late")


def replace(nexus):
    nexus.register("add", lambda: 1, replace=True)


@pytest.mark.parametrize("change", [both, replace])
async def test_sessions_hear_of_changed_lists(build, kit, change):
    heard = []

    async def hear(message):
        heard.append(type(message))

    nexus = build()
    async with kit.serving(nexus) as address, kit.connected(address, "legacy", message_handler=hear) as client:
        assert client.server_capabilities.tools.list_changed
        assert client.server_capabilities.resources.list_changed

        def changed():
            if types.ToolListChangedNotification in heard:
                return True
            change(nexus)  # again: the client opens the stream it listens on in the background
            return False

        await kit.until(changed)
        await kit.until(lambda: types.ResourceListChangedNotification in heard)


async def test_listeners_without_session_hear_of_changed_lists(build, kit):
    nexus = build()
    async with kit.serving(nexus) as address, kit.connected(address, "auto") as client:
        assert client.server_capabilities.tools.list_changed
        async with client.listen(tools_list_changed=True) as changes:
            nexus.register("late", lambda: 1)
            with anyio.fail_after(5):
                async for change in changes:
                    assert isinstance(change, ToolsListChanged)
                    break
        assert "late" in [tool.name for tool in (await client.list_tools()).tools]


async def test_lists_follow_the_registry(build, kit, era):
    nexus = build()
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        before = [tool.name for tool in (await client.list_tools()).tools]
        nexus.register("late", lambda: 1)
        listed = [tool.name for tool in (await client.list_tools()).tools]
        assert listed == [*sorted([*before[:-2], "late"]), *before[-2:]]

        def other(text: str) -> str:
            return text

        nexus.register("late", other, replace=True)
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["late"].input_schema["required"] == ["text"]
        nexus.unregister("late")
        assert [tool.name for tool in (await client.list_tools()).tools] == before


async def test_listeners_without_session_hear_of_a_run_that_ends(build, kit, seen):
    nexus = build()
    async with kit.serving(nexus) as address, kit.connected(address, "auto") as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "sleep", {"seconds": 60})
            await kit.until(lambda: seen.started == 1)
            run = nexus.runs.running()[0]
            uri = f"nexus://runs/{run.id}"
            async with client.listen(resource_subscriptions=[uri]) as updates:
                run.cancel()
                with anyio.fail_after(5):
                    async for update in updates:
                        assert isinstance(update, ResourceUpdated)
                        assert update.uri == uri
                        break


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_subscriptions_do_not_fill_the_memory(build, kit):
    nexus, uri = build(), "nexus://workflows/" + "a" * 500
    async with kit.serving(nexus) as address, kit.connected(address, "legacy") as client:
        with pytest.raises(MCPError) as caught:
            await client.subscribe_resource(uri)
        assert caught.value.error.code == -32602
        assert len(caught.value.error.data["uri"]) <= 512
        assert not (await nexus.channel("mcp")._transport()).server.announcements._subscribers


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_subscribed_sessions_hear_of_a_replaced_workflow(build, kit):
    heard = []

    async def hear(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            heard.append(str(message.params.uri))

    nexus = build()
    async with kit.serving(nexus) as address, kit.connected(address, "legacy", message_handler=hear) as client:
        uri = "nexus://workflows/add"
        await client.subscribe_resource(uri)

        def updated():
            replace(nexus)
            return bool(heard)

        await kit.until(updated)
        assert set(heard) == {uri}
        await client.unsubscribe_resource(uri)


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_who_follows_a_session_hears_of_its_changes(build, kit):
    heard = []

    async def hear(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            heard.append(str(message.params.uri))

    nexus = build()
    async with kit.serving(nexus) as address:
        session = await (await nexus.session_store()).create("python")
        uri = f"nexus://sessions/{session.id}"
        view = await nexus.view(Caller())
        async with kit.connected(address, "legacy", message_handler=hear) as client:
            await client.subscribe_resource(uri)
            await view.update_session(session.id, {"a": 1})
            await kit.until(lambda: heard == [uri])
        async with kit.connected(address, "auto") as client, client.listen(resource_subscriptions=[uri]) as updates:
            await view.update_session(session.id, {"a": 2})
            with anyio.fail_after(5):
                assert (await anext(aiter(updates))).uri == uri
            content = (await client.read_resource(uri)).contents[0]
    assert json.loads(content.text)["state"] == {"a": 2}
