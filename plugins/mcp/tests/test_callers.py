"""What callers see who are asked who they are: the tools they may run, their own runs and sessions; and HTTP's 401."""

from __future__ import annotations

import asyncio
import json

import callers
import httpx2
import pytest
from mcp import MCPError

from nexus_core import Caller, Invocation, Stage, hookimpl
from nexus_core.types.principal import RateLimit


@pytest.fixture
async def platform(build, kit):
    plugin = callers.Callers()
    nexus = build(plugin)
    callers.register(nexus)
    async with kit.serving(nexus) as address:
        nexus.address, nexus.callers = address, plugin
        yield nexus


def as_(name):
    return {"authorization": f"Bearer {name}"}


@pytest.mark.parametrize("method", ["initialize", "tools/list", "tools/call", "resources/read", "no/such"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer mallory"}])
async def test_nobody_gets_past_the_front(platform, kit, method, headers):
    body = {"jsonrpc": "2.0", "id": 1, "method": method}
    async with httpx2.AsyncClient() as http:
        answer = await http.post(platform.address, json=body, headers={**kit.accept, **headers})
        stream = await http.get(platform.address, headers={**kit.accept, **headers})
    assert answer.status_code == stream.status_code == 401
    assert answer.headers["www-authenticate"] == f'Bearer realm="test", origin="{platform.address[:-4]}"'
    error = answer.json()["error"]
    assert (error["code"], error["data"]["code"]) == (-32010, "authentication_failed")


async def test_who_may_not_run_a_tool_does_not_see_it(platform, kit, era):
    async with (
        kit.connected(platform.address, era, as_("alice")) as alice,
        kit.connected(platform.address, era, as_("bob")) as bob,
    ):
        seen = [{tool.name for tool in (await client.list_tools()).tools} for client in (alice, bob)]
        assert seen[0] - seen[1] == {"read_data"}
        listed = [{str(each.uri) for each in (await client.list_resources()).resources} for client in (alice, bob)]
        assert listed[0] - listed[1] == {"nexus://workflows/read_data"}
        assert (await alice.call_tool("read_data", {})).structured_content["result"] == 1
        refused = await bob.call_tool("read_data", {})
        assert refused.is_error
        assert refused.meta["nexus/error"]["missing_permissions"] == ["data.read"]


@pytest.mark.filterwarnings("ignore:resources/.*subscribe is removed")  # it is what that era has
async def test_anothers_resource_is_not_there(platform, kit, era):
    async with (
        kit.connected(platform.address, era, as_("alice")) as alice,
        kit.connected(platform.address, era, as_("bob")) as bob,
    ):
        run_id = (await alice.call_tool("read_data", {})).structured_content["run_id"]
        session = await (await platform.session_store()).create("python", "alice")
        for uri in (f"nexus://runs/{run_id}", f"nexus://sessions/{session.id}", "nexus://workflows/read_data"):
            assert json.loads((await alice.read_resource(uri)).contents[0].text)
            errors = []
            for asked in (uri, uri[:-1] + "x"):
                with pytest.raises(MCPError) as caught:
                    await bob.read_resource(asked)
                errors.append(caught.value.error)
            assert errors[0].code == errors[1].code == -32602
            assert errors[0].message.replace(uri, "") == errors[1].message.replace(uri[:-1] + "x", "") or (
                "workflow" in uri  # which names the workflow
            )
            if era == "legacy":
                await alice.session.subscribe_resource(uri)
                with pytest.raises(MCPError, match="no "):
                    await bob.session.subscribe_resource(uri)


async def test_a_stream_of_changes_tells_only_of_what_its_caller_sees(platform, kit):
    async with httpx2.AsyncClient(timeout=20) as http:
        for name, honored in (("alice", ["nexus://workflows/read_data"]), ("bob", None)):
            params = {"notifications": {"resourceSubscriptions": ["nexus://workflows/read_data"]}}
            body = kit.call("x") | {"method": "subscriptions/listen"}
            body["params"] = params | {"_meta": body["params"]["_meta"]}
            headers = kit.accept | {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
            async with http.stream("POST", platform.address, json=body, headers=headers | as_(name)) as answer:
                assert answer.status_code == 200
                async for line in answer.aiter_lines():
                    if line.startswith("data:") and "acknowledged" in line:
                        break
            told = json.loads(line.removeprefix("data:"))["params"]["notifications"]
            assert (told.get("resourceSubscriptions") or None) == honored


async def test_a_session_is_not_there_for_another(platform, kit, caplog):
    async with httpx2.AsyncClient() as http:
        opened = await http.post(platform.address, json=kit.initialize(), headers={**kit.accept, **as_("alice")})
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        answers = {
            name: await http.post(platform.address, json=ping, headers={**kit.accept, **session, **headers})
            for name, headers in {"alice": as_("alice"), "bob": as_("bob"), "nobody": {}}.items()
        }
        assert {name: answer.status_code for name, answer in answers.items()} == {
            "alice": 200, "bob": 404, "nobody": 401,
        }  # fmt: skip
        ended = await http.delete(platform.address, headers={**kit.accept, **session, **as_("bob")})
        assert ended.status_code == 404
    assert "credential does not match" in caplog.text
    assert session["mcp-session-id"] not in caplog.text


async def test_a_caller_is_asked_once_for_each_message(platform, kit):
    plugin = platform.callers
    async with httpx2.AsyncClient() as http:
        assert not plugin.asked
        headers = {**kit.accept, **kit.modern("read_data"), **as_("alice"), "x-forwarded-for": "1.2.3.4"}
        answer = await http.post(platform.address, json=kit.call("read_data"), headers=headers)
        assert answer.json()["result"]["structuredContent"]["result"] == 1
    assert [type(each) for each in plugin.asked] == [Caller]
    assert [each.name for each in plugin.passed] == ["read_data"]
    assert plugin.passed[0].headers[b"x-forwarded-for"] == b"1.2.3.4"


class Budget:
    stage = Stage.LIMIT

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]

    async def __call__(self, invocation, call_next):
        invocation.rate_limit = RateLimit(2, 60.0, 1, 12.5)
        return await call_next(invocation)


async def test_results_tell_what_is_left_of_the_budget(build, kit, era):
    async with kit.serving(build(Budget())) as address, kit.connected(address, era) as client:
        result = await client.call_tool("add", {"a": 1})
    assert result.meta["nexus/rate-limit"] == {"limit": 2, "window": 60.0, "remaining": 1, "reset": 12.5}


async def test_a_caller_who_leaves_does_not_end_a_call_with_a_key(build, kit, seen):
    nexus = build()
    async with kit.serving(nexus) as address:
        async with httpx2.AsyncClient() as http:
            body = kit.call("sleep", seconds=0.3)
            body["params"]["_meta"] = body["params"]["_meta"] | {"nexus/idempotency-key": "k", "progressToken": 1}
            headers = {**kit.accept, **kit.modern("sleep")}
            leaving = asyncio.create_task(http.post(address, json=body, headers=headers))
            await kit.until(lambda: seen.started == 1)
            leaving.cancel()
            await asyncio.wait({leaving})
        run = nexus.runs.find()[0]
        assert await run.wait(10)
        again = await nexus.invoke(Invocation("sleep", {"seconds": 0.3}, idempotency_key="k"))
    assert (again.value, again.replayed, seen.cancelled) == ("slept", True, 0)
