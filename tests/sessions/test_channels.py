"""One session driven from REST, the command line and MCP; alone, and in two processes that share a Redis."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import mcp_calls
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from served import command_line

WRITERS = 50


async def test_one_session_on_every_channel(two: list[Any]) -> None:
    one, other = two
    async with httpx2.AsyncClient(timeout=20) as client:
        api = one.urls["api"]
        made = (await client.post(f"{api}/api/sessions")).json()
        session_id = made["session_id"]
        headers = {"x-nexus-session": session_id}
        body = {"key": "rest", "value": 1}
        answer = await client.post(f"{api}/api/workflows/remember/execute", json=body, headers=headers)
        assert answer.json()["result"] == {"rest": 1}
        options = ["--session", session_id, "--json"]
        code, out, _ = await command_line(other, *options, "execute", "remember", "--key", "cli", "--value", "2")
        assert (code, json.loads(out)["result"]) == (0, {"rest": 1, "cli": 2})
        called = await mcp_calls.call(client, other, "remember", {"key": "mcp", "value": 3}, session_id)
        assert called["structuredContent"]["result"] == {"rest": 1, "cli": 2, "mcp": 3}
        shown = (await client.get(f"{api}/api/sessions/{session_id}")).json()
        assert shown["state"] == {"rest": 1, "cli": 2, "mcp": 3}
        assert shown["active_channels"] == ["api", "cli", "mcp"]
        code, out, _ = await command_line(one, *options, "sessions", "show")
        assert (code, json.loads(out)) == (0, shown)
        assert await mcp_calls.read(client, other, f"nexus://sessions/{session_id}") == shown

        # Revoked on one channel, it is gone on all.
        code, out, _ = await command_line(other, *options, "sessions", "revoke")
        assert code == 0, out
        gone = [
            await client.get(f"{api}/api/sessions/{session_id}"),
            await client.post(f"{api}/api/workflows/recall/execute", headers=headers),
        ]
        assert [(each.status_code, each.json()["code"]) for each in gone] == [(404, "session_not_found")] * 2
        assert (await command_line(one, *options, "execute", "recall"))[0] == 66
        refused = await mcp_calls.call(client, other, "recall", {}, session_id)
        assert refused["_meta"]["nexus/error"]["code"] == "session_not_found"


async def test_no_update_is_lost_with_many_writers(two: list[Any]) -> None:
    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=WRITERS)) as client:
        session_id = (await client.post(f"{two[0].urls['api']}/api/sessions")).json()["session_id"]
        headers = {"x-nexus-session": session_id}

        async def write(number: int) -> None:
            process, key = two[number % 2], f"key {number}"
            params = {"key": key, "value": number}
            match number % 4:
                case 0:
                    url = f"{process.urls['api']}/api/sessions/{session_id}"
                    answer = await client.patch(url, json={"state": {key: number}})
                    assert answer.status_code == 200, answer.text
                case 1:
                    url = f"{process.urls['api']}/api/workflows/remember/execute"
                    answer = await client.post(url, json=params, headers=headers)
                    assert answer.status_code == 200, answer.text
                case 2:
                    body = {"command": "execute", "workflow": "remember", "params": params}
                    answer = await client.post(f"{process.urls['cli']}/cli", json=body, headers=headers)
                    assert "reply" in answer.json(), answer.text
                case _:
                    called = await mcp_calls.call(client, process, "remember", params, session_id)
                    assert not called["isError"], called

        await asyncio.gather(*(write(number) for number in range(WRITERS)))
        for process in two:
            shown = (await client.get(f"{process.urls['api']}/api/sessions/{session_id}")).json()
            assert shown["state"] == {f"key {number}": number for number in range(WRITERS)}


async def test_what_is_read_changed_and_written_is_kept_or_refused(two: list[Any]) -> None:
    conflicts: list[dict[str, Any]] = []

    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=WRITERS)) as client:
        session_id = (await client.post(f"{two[0].urls['api']}/api/sessions")).json()["session_id"]
        headers = {"x-nexus-session": session_id}

        async def append(number: int) -> dict[str, Any]:
            """Call on one of the channels of one of the processes; return the reply or the problem."""
            process, params = two[number % 2], {"item": number}
            match number // 2 % 3:
                case 0:
                    url = f"{process.urls['api']}/api/workflows/append/execute"
                    reply: dict[str, Any] = (await client.post(url, json=params, headers=headers)).json()
                case 1:
                    body = {"command": "execute", "workflow": "append", "params": params}
                    lines = (await client.post(f"{process.urls['cli']}/cli", json=body, headers=headers)).text
                    last = json.loads(lines.splitlines()[-1])
                    reply = last.get("reply") or last["error"]
                case _:
                    called = await mcp_calls.call(client, process, "append", params, session_id)
                    reply = called["_meta"]["nexus/error"] if called["isError"] else called["structuredContent"]
            return reply

        async def append_surely(number: int) -> None:
            while "result" not in (reply := await append(number)):
                conflicts.append(reply)
                assert len(conflicts) < 2000

        await asyncio.gather(*(append_surely(number) for number in range(12)))
        shown = (await client.get(f"{two[0].urls['api']}/api/sessions/{session_id}")).json()
    assert sorted(shown["state"]["items"]) == list(range(12))
    assert conflicts
    assert {each["code"] for each in conflicts} == {"conflict"}
    assert next(each["members"] for each in conflicts if "members" in each) == ["items"]


async def test_a_session_ends_everywhere_when_its_time_is_over(start: Any, redis_server: Any) -> None:
    shared = {"redis_url": redis_server.url, "redis_timeout": 10, "session_backend": "redis", "session_ttl": 1.5}
    one, other = start(**shared), start(**shared)
    async with httpx2.AsyncClient(timeout=20) as client:
        made = (await client.post(f"{one.urls['api']}/api/sessions")).json()
        url = f"{other.urls['api']}/api/sessions/{made['session_id']}"
        loop = asyncio.get_running_loop()
        end = loop.time() + made["expires_at"] - made["created_at"] + 1.0  # within a second
        assert (await client.get(url)).status_code == 200
        while (answer := await client.get(url)).status_code == 200:
            assert loop.time() < end
            await asyncio.sleep(0.05)
        assert answer.json()["code"] == "session_not_found"


@pytest.mark.parametrize("unknown", ["guessed", "%20", "..%2F", "x" * 500, "\N{SNOWMAN}"])
async def test_unknown_sessions_look_alike_on_every_channel(start: Any, unknown: str) -> None:
    process = start()
    detail = "There is no session with this id."
    async with httpx2.AsyncClient(timeout=20) as client:
        answer = await client.get(f"{process.urls['api']}/api/sessions/{unknown}")
        assert answer.status_code in (400, 404)
        if answer.status_code == 404 and answer.json()["code"] != "not_found":
            assert answer.json()["detail"] == detail
        if unknown.isascii():
            code, _, err = await command_line(process, "--session", unknown, "--json", "execute", "recall")
            assert code in (2, 66)
            if code == 66:
                assert json.loads(err.strip().splitlines()[-1])["detail"] == detail
            called = await mcp_calls.call(client, process, "recall", {}, unknown)
            assert called["_meta"]["nexus/error"]["status"] in (400, 404)


async def test_agents_hear_of_what_happens_elsewhere(two: list[Any]) -> None:
    """A client of MCP follows a session, and all its events, on one process while they change on another."""
    one, other = two
    async with httpx2.AsyncClient(timeout=20) as http, httpx2.AsyncClient(timeout=20) as agent:
        api = f"{one.urls['api']}/api/sessions"
        session_id = (await http.post(api)).json()["session_id"]
        uris = [f"nexus://sessions/{session_id}", "nexus://events"]
        transport = streamable_http_client(f"{other.urls['mcp']}/mcp", http_client=agent)
        async with Client(transport, mode="auto") as client:
            begin = json.loads((await client.read_resource("nexus://events")).contents[0].text)["last"]
            async with client.listen(resource_subscriptions=uris) as changes:
                await http.patch(f"{api}/{session_id}", json={"state": {"a": 1}})
                heard: set[str] = set()
                while len(heard) < 2:
                    heard.add(str((await asyncio.wait_for(anext(changes), 10)).uri))
                assert heard == set(uris)
                told = await client.read_resource(f"nexus://events?after={begin}")
                [event] = json.loads(told.contents[0].text)["events"]
                assert (event["type"], event["data"]["changed"]) == ("session.updated", ["a"])
                await http.delete(f"{api}/{session_id}")
                assert str((await asyncio.wait_for(anext(changes), 10)).uri) in uris
