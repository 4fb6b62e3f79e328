"""One caller fills the store, on every channel; another's session and the key of its running call stay."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from token_issuer import secret_token

from nexus_core import Nexus

SECRET = "the secret of the tests of limits, which is long enough"
STATE = {"note": "x" * 60_000}


def headers(who: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret_token(SECRET, sub=who)}", **more}


@pytest.fixture(name="platform")
def platform_fixture() -> Any:
    nexus: Any = Nexus(
        api_port=0, cli_port=0, mcp_port=0, enable_auth=True, jwt_secret=SECRET,
        store_max_bytes=4_000_000, store_caller_max_bytes=1_000_000, shutdown_grace=1, drain_seconds=0.1,
    )  # fmt: skip
    nexus.gate, nexus.ran = asyncio.Event(), []

    @nexus.workflow
    async def slow() -> int:
        nexus.ran.append(1)
        await nexus.gate.wait()
        return len(nexus.ran)

    @nexus.workflow
    async def large() -> str:
        return "x" * 300_000

    return nexus


async def test_one_caller_fills_its_share_alone(platform: Any) -> None:
    async with platform.serving() as listeners, httpx2.AsyncClient(timeout=60) as client:
        urls = {channel: listener.url for listener in listeners for channel in listener.channels}
        api, execute = f"{urls['api']}/api/sessions", f"{urls['api']}/api/workflows/{{}}/execute"
        mine = (await client.post(api, headers=headers("victim"))).json()["session_id"]
        await client.patch(f"{api}/{mine}", json={"state": {"mine": 1}}, headers=headers("victim"))
        keyed = headers("victim", **{"idempotency-key": "k"})
        first = asyncio.create_task(client.post(execute.format("slow"), json={}, headers=keyed))
        async with asyncio.timeout(30):
            while not platform.ran:
                await asyncio.sleep(0.01)

        refused: dict[str, Any] = {}
        for _ in range(60):
            made = await client.post(api, headers=headers("mallory"))
            if made.status_code == 429:
                break
            url = f"{api}/{made.json()['session_id']}"
            changed = await client.patch(url, json={"state": STATE}, headers=headers("mallory"))
            if changed.status_code == 429:
                refused["rest"] = changed.json()
        while (made := await client.post(api, headers=headers("mallory"))).status_code != 429:
            pass  # what is left is too small for a state, and holds some empty sessions
        refused["create"] = made.json()
        command = {"command": "sessions.create"}
        refused["cli"] = (await client.post(f"{urls['cli']}/cli", json=command, headers=headers("mallory"))).json()
        async with httpx2.AsyncClient(timeout=60, headers=headers("mallory")) as http:
            async with Client(streamable_http_client(f"{urls['mcp']}/mcp", http_client=http)) as mcp:
                called = await mcp.call_tool("nexus_sessions", {"action": "create"})
                refused["mcp"] = (called.meta or {})["nexus/error"]
        problems = {way: each.get("error") or each for way, each in refused.items()}
        assert set(problems) == {"rest", "create", "cli", "mcp"}
        for problem in problems.values():
            assert (problem["status"], problem["code"]) == (429, "state_limit_reached")
            assert "store_caller_max_bytes" in problem["detail"]
            assert "Delete sessions" in problem["detail"]

        answers = []
        for number in [*range(6), *range(6)]:
            own = headers("mallory", **{"idempotency-key": f"k{number}"})
            answers.append((await client.post(execute.format("large"), json={}, headers=own)).json())
        assert [len(each["result"]) for each in answers[:6]] == [300_000] * 6
        assert [each.get("replayed", False) for each in answers[6:9]] == [True] * 3
        assert [(each["code"], "run_id" in each) for each in answers[9:]] == [("conflict", True)] * 3

        shown = (await client.get(f"{api}/{mine}", headers=headers("victim"))).json()
        assert shown["state"] == {"mine": 1}
        assert (await client.post(api, headers=headers("victim"))).status_code == 201
        repeat = await client.post(execute.format("slow"), json={}, headers=keyed)
        assert (repeat.status_code, repeat.json()["code"]) == (409, "conflict")
        platform.gate.set()
        assert (await first).json()["result"] == 1
        again = (await client.post(execute.format("slow"), json={}, headers=keyed)).json()
        assert (again["result"], again["replayed"], len(platform.ran)) == (1, True, 1)
