"""Calls that outlive a client's patience, and the tool that looks after runs."""

from __future__ import annotations

import asyncio
import time

import pytest
from jsonschema import Draft202012Validator

from nexus_core import EventHandler
from nexus_core.testing import eventually


async def runs(client, **arguments):
    return await client.call_tool("nexus_runs", arguments)


async def goes_on(client, seconds=30.0, **options):
    """Call a workflow that takes long, and return the id of its run."""
    result = await client.call_tool("sleep", {"seconds": seconds}, meta={"nexus/wait": 0} | options)
    assert (result.is_error, result.structured_content["status"]) == (False, "running"), result
    return result.structured_content["run_id"]


async def test_a_long_call_ends_with_its_run_which_goes_on(build, kit, era):
    nexus = build(mcp_wait=0.2)
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        begin = time.monotonic()
        result = await client.call_tool("sleep", {"seconds": 3.0})
        assert 0.15 < time.monotonic() - begin < 2.5
        reply = result.structured_content
        assert (result.is_error, reply["status"], reply["workflow"]) == (False, "running", "sleep")
        assert reply["run_id"] in result.content[0].text
        tool = {tool.name: tool for tool in (await client.list_tools()).tools}["sleep"]
        Draft202012Validator(tool.output_schema).validate(reply)
        ended = await runs(client, action="wait", run_id=reply["run_id"], wait=10)
        assert (ended.structured_content["status"], ended.structured_content["result"]) == ("completed", "slept")
        read = await client.read_resource(f"nexus://runs/{reply['run_id']}")
        assert '"slept"' in read.contents[0].text


async def test_quick_calls_are_answered_as_ever_and_not_kept(build, kit, era):
    nexus = build()
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        result = await client.call_tool("add", {"a": 1, "b": 2}, meta={"nexus/wait": 5})
        assert result.structured_content["result"] == 3
        run = nexus.runs.get(result.structured_content["run_id"])
        assert run.result is None
        assert nexus.runs.kept_bytes == 0
        refused = await client.call_tool("add", {"a": "x"}, meta={"nexus/wait": 0})
        assert refused.is_error


async def test_progress_renews_the_patience(build, kit, era):
    nexus = build(mcp_wait=1)

    @nexus.workflow
    async def creeping(pauses: int, context) -> str:
        return "unused"

    from nexus_core import Context

    async def creep(pauses: int, context: Context) -> str:
        for number in range(pauses):
            context.progress(number)
            await asyncio.sleep(0.2)
        await asyncio.sleep(3.0 if pauses == 1 else 0)
        return "there"

    nexus.register("creeping", creep, replace=True)
    told = []

    async def tell(progress, total, message):
        told.append(progress)

    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        result = await client.call_tool("creeping", {"pauses": 8}, progress_callback=tell)
        assert result.structured_content["result"] == "there"
        assert len(told) == 8
        silent = await client.call_tool("creeping", {"pauses": 1}, progress_callback=tell)
        assert silent.structured_content["status"] == "running"


async def test_runs_are_listed_shown_and_cancelled(client, seen):
    run_id = await goes_on(client)
    listed = await runs(client, action="list", workflow="sleep", status="running")
    assert [run["run_id"] for run in listed.structured_content["runs"]] == [run_id]
    shown = (await runs(client, action="show", run_id=run_id)).structured_content
    assert (shown["status"], shown["channel"]) == ("running", "mcp")
    waited = (await runs(client, action="wait", run_id=run_id, wait=0.05)).structured_content
    assert waited["status"] == "running"
    cancelled = (await runs(client, action="cancel", run_id=run_id)).structured_content
    assert cancelled["cancelled"] is True
    assert (await runs(client, action="wait", run_id=run_id)).structured_content["status"] == "cancelled"
    await eventually(lambda: seen.cancelled == 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "action"), ({"action": "destroy"}, "action"), ({"action": "show"}, "/run_id: required for show"),
        ({"action": "show", "run_id": "nothing"}, "There is no run with this id"),
        ({"action": "list", "limit": 0}, "/limit: expected a whole number from 1 to 100"),
        ({"action": "list", "status": "odd"}, "status"), ({"action": "wait", "run_id": 5}, "run_id"),
        ({"action": "list", "more": 1}, "more"),
    ],
)  # fmt: skip
async def test_wrong_arguments_are_named(client, arguments, told):
    result = await runs(client, **arguments)
    assert result.is_error
    assert told in result.content[0].text
    assert result.meta["nexus/error"]["code"] in ("validation_error", "malformed_request", "run_not_found")


async def test_a_wait_out_of_bounds(client):
    run_id = await goes_on(client)
    result = await runs(client, action="wait", run_id=run_id, wait=-1)
    assert "/wait: expected a number of seconds from 0" in result.content[0].text
    await runs(client, action="cancel", run_id=run_id)
    for value in (-1, "1", True, 1e9, None):
        result = await client.call_tool("add", {"a": 1}, meta={"nexus/wait": value})
        assert result.is_error is (value is not None)
        if value is not None:
            assert "nexus/wait must be a number of seconds from 0 to 3600" in result.content[0].text


async def test_switched_off_and_outdone(build, kit, era):
    nexus = build(mcp_platform_tools=False)
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        assert not [tool for tool in (await client.list_tools()).tools if tool.name.startswith("nexus_")]
    nexus = build()
    nexus.register("nexus_runs", lambda: "mine")
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names.count("nexus_runs") == 1
        assert (await client.call_tool("nexus_runs", {})).structured_content["result"] == "mine"


async def test_event_handlers_reword_errors(build, kit, era):
    class Rewording(EventHandler):
        def handle_error(self, event):
            return {"error": {"code": -1, "message": str(event.error)}}

    nexus = build()
    nexus.register_event_handler(Rewording())
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        for meta in ({}, {"nexus/wait": 5}, {"nexus/idempotency-key": "1"}):
            result = await client.call_tool("refuse", {"reason": "no"}, meta=meta)
            assert result.is_error
            assert result.content[0].text == '{"error":{"code":-1,"message":"no"}}'
            assert result.meta["nexus/error"]["code"] == "workflow_error"
