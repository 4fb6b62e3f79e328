"""Tools, through the official client over real HTTP, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import json

import anyio
import pytest
from jsonschema import Draft202012Validator
from mcp import MCPError


async def test_eras_are_what_they_are_called(client, era):
    expected = {"legacy": "2025-11-25", "auto": "2026-07-28"}[era]
    assert client.protocol_version == expected


async def test_lists_tools_with_schemas(client):
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools)[-2:] == ["nexus_runs", "nexus_sessions"]
    assert list(tools)[:-2] == sorted(list(tools)[:-2])
    add = tools["add"]
    assert add.description == "Add two numbers."
    assert add.input_schema["properties"]["a"] == {"type": "integer", "description": "The first."}
    assert add.input_schema["required"] == ["a"]
    assert add.output_schema["properties"]["result"] == {"type": "integer"}
    assert add.output_schema["required"] == ["run_id"]
    assert add.output_schema["anyOf"] == [{"required": ["result"]}, {"required": ["status"]}]
    assert "nexus_session" not in add.input_schema["properties"]
    assert tools["where"].input_schema["properties"]["nexus_session"]["type"] == "string"
    assert tools["boom"].output_schema["properties"]["result"] == {}


async def test_calls_with_structured_output(client):
    result = await client.call_tool("add", {"a": 2, "b": 3})
    assert not result.is_error
    assert result.structured_content["result"] == 5
    assert len(result.structured_content["run_id"]) == 32
    assert result.content[0].text == "5"


async def test_recursive_output_fits_the_listed_schema(client):
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    result = await client.call_tool("tree", {"depth": 2})
    schema = tools["tree"].output_schema
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(result.structured_content)
    broken = {**result.structured_content, "result": {"name": "x", "children": [{"name": 1}]}}
    assert not Draft202012Validator(schema).is_valid(broken)


async def test_wrong_parameters_name_each_field(client):
    await client.list_tools()  # the client checks results of listed tools
    result = await client.call_tool("add", {"a": "x", "bb": 3})
    assert result.is_error
    text = result.content[0].text
    assert "/a" in text
    assert "/bb" in text
    assert "\n" not in text
    assert "(run " not in text
    problem = result.meta["nexus/error"]
    assert problem["code"] == "validation_error"
    assert {error["pointer"] for error in problem["errors"]} == {"/a", "/bb"}


async def test_a_workflow_says_why_it_refuses(client):
    result = await client.call_tool("refuse", {"reason": "no\nstock"})
    assert result.is_error
    run_id = result.meta["nexus/error"]["run_id"]
    assert result.content[0].text == f"no stock (run {run_id})"
    assert result.meta["nexus/error"]["code"] == "workflow_error"
    assert result.meta["nexus/error"]["detail"] == "no\nstock"


async def test_an_exception_does_not_leak(client):
    result = await client.call_tool("boom")
    assert result.is_error
    assert "secret" not in result.model_dump_json()
    assert result.meta["nexus/error"]["code"] == "workflow_failed"
    run_id = result.meta["nexus/error"]["run_id"]
    assert len(run_id) == 32
    assert result.content[0].text.endswith(f"(run {run_id})")


async def test_unknown_tool_is_a_protocol_error(client):
    with pytest.raises(MCPError) as caught:
        await client.call_tool("nothing", {"a": 1})
    assert caught.value.error.code == -32602
    assert 'no workflow "nothing"' in caught.value.error.message
    assert caught.value.error.data["code"] == "workflow_not_found"


async def test_tool_timeout(build, kit, era, seen):
    async with kit.serving(build(tool_timeout=0.1)) as address, kit.connected(address, era) as client:
        result = await client.call_tool("sleep", {"seconds": 30})
        assert result.is_error
        assert result.meta["nexus/error"]["code"] == "workflow_timeout"
        await kit.until(lambda: seen.cancelled == 1)


async def test_progress(client):
    reports = []

    async def report(*values):
        reports.append(values)

    result = await client.call_tool("steps", {"count": 3}, progress_callback=report)
    assert result.structured_content["result"] == "done"
    assert reports == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]


async def test_items_of_a_stream_are_progress_and_all_of_them_the_result(client):
    reports = []

    async def report(*values):
        reports.append(values)

    result = await client.call_tool("squares", {"count": 4}, progress_callback=report)
    assert result.structured_content["result"] == [0, 1, 4, 9]
    assert reports == [(1, None, "0"), (2, None, "1"), (3, None, "4"), (4, None, "9")]


async def test_failing_after_progress(client):
    async def report(*values):
        pass

    result = await client.call_tool("refuse", {"reason": "why"}, progress_callback=report)
    assert result.is_error
    assert result.content[0].text == f"why (run {result.meta['nexus/error']['run_id']})"
    with pytest.raises(MCPError, match="no workflow"):
        await client.call_tool("nothing", {}, progress_callback=report)


@pytest.mark.parametrize("follows", [False, True])
async def test_cancelling_a_call_cancels_its_run(client, seen, kit, follows):
    async def report(*values):
        pass

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel():
                await kit.until(lambda: seen.started == 1)
                scope.cancel()

            group.start_soon(cancel)
            await client.call_tool("sleep", {"seconds": 60}, progress_callback=report if follows else None)
    await kit.until(lambda: seen.cancelled == 1)
    assert (await client.call_tool("add", {"a": 1})).structured_content["result"] == 2


async def test_a_client_that_waits_no_longer_cancels_the_run(client, seen, kit):
    with pytest.raises(MCPError):
        await client.call_tool("sleep", {"seconds": 60}, read_timeout_seconds=0.2)
    await kit.until(lambda: seen.cancelled == 1)


async def test_a_run_cancelled_elsewhere_is_an_error(build, kit, era, seen):
    nexus = build()
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        call = asyncio.create_task(client.call_tool("sleep", {"seconds": 60}))
        await kit.until(lambda: seen.started == 1)
        nexus.runs.running()[0].cancel()
        result = await call
        assert result.is_error
        assert result.meta["nexus/error"]["code"] == "run_cancelled"


async def test_many_calls_at_once(client):
    results = await asyncio.gather(*(client.call_tool("add", {"a": n, "b": n}) for n in range(50)))
    assert [result.structured_content["result"] for result in results] == [2 * n for n in range(50)]


async def test_what_the_caller_says_reaches_the_pipeline(build, kit, era, seen):
    headers = {"authorization": "Bearer abc", "x-nexus-session": "from-header", "traceparent": "00-header"}
    async with kit.serving(build()) as address, kit.connected(address, era, headers) as client:
        await client.call_tool("add", {"a": 1})
        first = seen.invocations[-1]
        assert (first.name, first.channel, first.client_address) == ("add", "mcp", "127.0.0.1")
        assert first.credentials == {"authorization": "Bearer abc"}
        assert first.session_id == "from-header"
        assert first.trace == {"traceparent": "00-header"}
        assert first.idempotency_key is None
        meta = {
            "nexus/session": "from-meta",
            "nexus/idempotency-key": "k1",
            "traceparent": "00-meta",
            "tracestate": "a=b",
        }
        await client.call_tool("add", {"a": 1}, meta=meta)
        second = seen.invocations[-1]
        assert second.session_id == "from-meta"
        assert second.idempotency_key == "k1"
        assert second.trace["traceparent"].startswith("00-")
        assert second.trace["tracestate"] == "a=b"


async def test_an_unknown_session_is_refused(client):
    result = await client.call_tool("where", {}, meta={"nexus/session": "nobody's"})
    assert result.is_error
    assert result.meta["nexus/error"]["code"] == "session_not_found"


@pytest.mark.parametrize("key", ["nexus/session", "nexus/idempotency-key"])
@pytest.mark.parametrize("value", ["x" * 256, 1])
async def test_names_the_caller_gives_are_short_texts(client, key, value):
    result = await client.call_tool("add", {"a": 1}, meta={key: value})
    assert result.is_error
    assert key in result.content[0].text
    assert result.meta["nexus/error"]["code"] == "malformed_request"


async def test_null_and_large_values_arrive_as_they_are(build, kit, era):
    nexus = build()

    @nexus.workflow
    async def odd() -> dict[str, object]:
        return {"nothing": None, "list": [None, {"inner": None}], "large": 2**60, "text": "ü\u2028"}

    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        result = await client.call_tool("odd")
        expected = {"nothing": None, "list": [None, {"inner": None}], "large": 2**60, "text": "ü\u2028"}
        assert result.structured_content["result"] == expected
        assert json.loads(result.content[0].text) == expected


async def test_long_lists_come_in_pages(build, kit, era):
    nexus = build()

    async def numbered() -> int:
        return 1

    for number in range(2100):
        nexus.register(f"n{number:04}", numbered)
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        names, cursor, pages = [], None, 0
        while pages == 0 or cursor:
            page = await client.list_tools(cursor=cursor)
            names += [tool.name for tool in page.tools]
            cursor, pages = page.next_cursor, pages + 1
        assert pages == 3
        assert names == [*nexus.list_workflows(), "nexus_runs", "nexus_sessions"]
        with pytest.raises(MCPError) as caught:
            await client.list_tools(cursor="made up")
        assert caught.value.error.code == -32602
