"""What providers of language models demand of a list of tools, and what a list tells of workflows that are hidden."""

from __future__ import annotations

import json
import re
from itertools import chain

import callers
import pytest

from nexus_core import Context

PORTABLE = re.compile(r"[a-zA-Z0-9_-]{1,64}")
LONG = "long" * 20


@pytest.fixture
def named(build):
    nexus = build()
    nexus.register("reports.monthly", lambda year: year)
    nexus.register(LONG, lambda: "long", {"title": "A long one"})
    nexus.register("reports_monthly", lambda: "another")

    @nexus.workflow(name="in.session")
    async def in_session(context: Context) -> str | None:
        return context.session.id if context.session else None

    return nexus


async def test_every_tool_has_a_portable_name_and_a_description(named, kit, era):
    async with kit.serving(named) as address, kit.connected(address, era) as client:
        tools = (await client.list_tools()).tools
        assert len({tool.name for tool in tools}) == len(tools)
        assert all(PORTABLE.fullmatch(tool.name) for tool in tools)
        assert all(tool.description.strip() for tool in tools)
        assert all(each.description.strip() for each in (await client.list_resources()).resources)
        found = {(tool.meta or {}).get("nexus/workflow", tool.name): tool for tool in tools}
        assert {"reports.monthly", LONG, "reports_monthly", "add"} <= found.keys()
        assert (found["reports.monthly"].title, found[LONG].title) == ("reports.monthly", "A long one")
        assert found["add"].title is None
        assert found["add"].meta is None


async def test_a_workflow_answers_to_either_name(named, kit, era):
    async with kit.serving(named) as address, kit.connected(address, era) as client:
        tool = named.workflows.get("reports.monthly").tool_name
        for name in (tool, "reports.monthly"):
            result = await client.call_tool(name, {"year": 2026})
            assert result.structured_content["result"] == 2026
            run = named.runs.get(result.structured_content["run_id"])
            assert run.workflow == "reports.monthly"
            listed = await client.call_tool("nexus_runs", {"action": "list", "workflow": name})
            assert {each["workflow"] for each in listed.structured_content["runs"]} == {"reports.monthly"}
            read = await client.read_resource(f"nexus://workflows/{name}")
            described = json.loads(read.contents[0].text)
            assert (described["name"], described["tool_name"]) == ("reports.monthly", tool)
        assert (await client.call_tool("reports_monthly", {})).structured_content["result"] == "another"
        refused = await client.call_tool(tool, {"year": 1, "day": 2})
        assert "day" in refused.content[0].text
        made = await client.call_tool("nexus_sessions", {"action": "create"})
        session = made.structured_content["session_id"]
        in_session = named.workflows.get("in.session").tool_name
        assert (await client.call_tool(in_session, {"nexus_session": session})).structured_content["result"] == session


@pytest.mark.parametrize("kind", ["tools", "resources"])
async def test_pages_and_cursors_tell_nothing_of_hidden_workflows(build, kit, era, monkeypatch, kind):
    monkeypatch.setattr("nexus_mcp.tools.PAGE_SIZE", 3)
    nexus = build(callers.Callers(), mcp_platform_tools=False)
    for number in range(9):
        nexus.register(f"secret{number}", lambda: 1, {"required_permissions": ["data.read"]})

    async def pages(client):
        found, cursor = [], None
        while True:
            answer = await getattr(client, f"list_{kind}")(cursor=cursor)
            found.append([each.name for each in getattr(answer, kind)])
            cursor = answer.next_cursor
            if cursor is None:
                return found
            assert cursor.removeprefix("after:") == found[-1][-1]

    async with kit.serving(nexus) as address:
        seen = {}
        for name in ("alice", "bob"):
            async with kit.connected(address, era, {"authorization": f"Bearer {name}"}) as client:
                seen[name] = await pages(client)
    assert list(chain(*seen["alice"])) == nexus.list_workflows()
    assert list(chain(*seen["bob"])) == [name for name in nexus.list_workflows() if not name.startswith("secret")]
    assert {len(page) for page in seen["bob"][:-1]} == {3}
