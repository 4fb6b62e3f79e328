"""What somebody waits for is delivered, however little of it history keeps: on every channel, all at one moment."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import websockets
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from nexus_api.plugin import ApiPlugin
from nexus_cli.plugin import CliPlugin
from nexus_hypercorn.plugin import HypercornPlugin
from nexus_mcp.plugin import McpPlugin

from nexus_core import Context, Invocation, Nexus

CALLS = 60
SIZE = 150_000
PLUGINS = [ApiPlugin, CliPlugin, HypercornPlugin, McpPlugin]


class Platform:
    """A platform whose history holds less than one result. All calls of a test end together."""

    def __init__(self) -> None:
        self.nexus = Nexus(
            discover=False, plugins=PLUGINS, api_port=0, cli_port=0, mcp_port=0, run_history_bytes=SIZE // 2,
            websocket_calls=CALLS, shutdown_grace=1, drain_seconds=0.1,
        )  # fmt: skip
        self.under_way, self.all_there = 0, asyncio.Event()

        @self.nexus.workflow
        async def large(context: Context) -> str:
            context.progress(1, 2)
            self.under_way += 1
            if self.under_way == CALLS:
                self.all_there.set()
            await self.all_there.wait()
            return "x" * SIZE

    def is_right(self, result: Any) -> bool:
        return bool(result == "x" * SIZE)


@pytest.fixture(name="platform")
def platform_fixture() -> Platform:
    return Platform()


async def by_waiting(urls: dict[str, str], platform: Platform) -> list[Any]:
    return await _posted(urls, lambda number: {"prefer": "wait=60"})


async def with_keys(urls: dict[str, str], platform: Platform) -> list[Any]:
    return await _posted(urls, lambda number: {"idempotency-key": f"k{number}"})


async def _posted(urls: dict[str, str], headers: Any) -> list[Any]:
    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=None)) as client:
        calls = [
            client.post(f"{urls['api']}/api/workflows/large/execute", json={}, headers=headers(number))
            for number in range(CALLS)
        ]
        return [answer.json().get("result") for answer in await asyncio.gather(*calls)]


async def by_events(urls: dict[str, str], platform: Platform) -> list[Any]:
    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=None)) as client:
        headers = {"accept": "text/event-stream"}
        url = f"{urls['api']}/api/workflows/large/execute"
        answers = await asyncio.gather(*(client.post(url, json={}, headers=headers) for _ in range(CALLS)))
    return [json.loads(answer.text.strip().rpartition("data: ")[2]).get("result") for answer in answers]


async def by_following(urls: dict[str, str], platform: Platform) -> list[Any]:
    """Calls that go on, each followed by an event stream, and asked for with a wait."""
    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=None)) as client:
        execute = f"{urls['api']}/api/workflows/large/execute?wait=0"
        runs = []
        for _ in range(CALLS - 1):
            runs.append((await client.post(execute, json={})).json()["run_id"])
        held = [platform.nexus.runs.get(run_id) for run_id in runs]
        waits = [asyncio.create_task(client.get(f"{urls['api']}/api/runs/{run_id}?wait=60")) for run_id in runs]
        streams = [asyncio.create_task(client.get(f"{urls['api']}/api/runs/{run_id}/events")) for run_id in runs]
        async with asyncio.timeout(60):
            while any(run.followers < 2 for run in held):
                await asyncio.sleep(0.01)
        last = await client.post(f"{urls['api']}/api/workflows/large/execute", json={})
        answers = [*(await asyncio.gather(*waits)), last]
        events = [json.loads((await stream).text.strip().rpartition("data: ")[2]) for stream in streams]
    assert all(platform.is_right(event.get("result")) for event in events)
    return [answer.json().get("result") for answer in answers]


async def by_websocket(urls: dict[str, str], platform: Platform) -> list[Any]:
    url = urls["api"].replace("http", "ws", 1) + "/api/ws"
    results = []
    async with websockets.connect(url, max_size=None) as socket:
        for number in range(CALLS):
            await socket.send(json.dumps({"type": "execute", "id": number, "workflow": "large"}))
        while len(results) < CALLS:
            message = json.loads(await asyncio.wait_for(socket.recv(), 60))
            if message["type"] != "event":
                results.append(message.get("result"))
    return results


async def by_terminal(urls: dict[str, str], platform: Platform) -> list[Any]:
    return await _commanded(urls, events=True)


async def by_command(urls: dict[str, str], platform: Platform) -> list[Any]:
    return await _commanded(urls, wait=60)


async def _commanded(urls: dict[str, str], **members: Any) -> list[Any]:
    """What ``nexus execute`` sends from a terminal, and with ``--wait``."""
    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=None)) as client:
        command = {"command": "execute", "workflow": "large"} | members
        answers = await asyncio.gather(*(client.post(f"{urls['cli']}/cli", json=command) for _ in range(CALLS)))
    return [json.loads(answer.text.splitlines()[-1]).get("reply", {}).get("result") for answer in answers]


async def by_progress(urls: dict[str, str], platform: Platform) -> list[Any]:
    async def heard(*_: Any) -> None:
        pass

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=60))
        transport = streamable_http_client(f"{urls['mcp']}/mcp", http_client=http)
        client = await stack.enter_async_context(Client(transport))
        calls = [client.call_tool("large", {}, progress_callback=heard) for _ in range(CALLS)]
        answers = await asyncio.gather(*calls)
    return [(answer.structured_content or {}).get("result") for answer in answers]


WAYS = [
    by_waiting, with_keys, by_events, by_following, by_websocket, by_terminal, by_command, by_progress,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_every_result_arrives(way: Any, platform: Platform) -> None:
    async with platform.nexus.serving() as listeners:
        urls = {channel: listener.url for listener in listeners for channel in listener.channels}
        results = await way(urls, platform)
    assert [platform.is_right(result) for result in results] == [True] * CALLS
    assert platform.nexus.runs.kept_bytes <= SIZE // 2
    ended = platform.nexus.runs.find(limit=1000)
    assert len(ended) == CALLS
    assert not any(run.result for run in ended)  # and nothing is held any longer than that
    assert not any(run.followers for run in ended)


async def test_from_code_too(platform: Platform) -> None:
    async with platform.nexus as nexus:
        calls = [nexus.invoke(Invocation("large", {}, idempotency_key=str(number))) for number in range(CALLS)]
        assert all(platform.is_right(result.value) for result in await asyncio.gather(*calls))
        platform.under_way = 0
        runs = [nexus.submit(Invocation("large", {})) for _ in range(CALLS)]
        results = await asyncio.gather(*(run.outcome() for run in runs))
        assert all(platform.is_right(result.value) for result in results)


async def test_a_hold_that_is_never_entered_ends_by_itself(platform: Platform) -> None:
    async with platform.nexus as nexus:
        platform.all_there.set()
        run = nexus.submit(Invocation("large", {}))
        hold = run.hold()
        await run.wait()
        assert platform.is_right(run.result.value if run.result else None)
        del hold
        assert (run.followers, run.result) == (0, None)


async def test_an_empty_idempotency_key_is_refused_on_every_channel(platform: Platform) -> None:
    platform.all_there.set()
    answers: dict[str, Any] = {}
    async with platform.nexus.serving() as listeners, httpx2.AsyncClient(timeout=60) as client:
        urls = {channel: listener.url for listener in listeners for channel in listener.channels}
        empty = {"idempotency-key": ""}
        answers["api"] = (
            await client.post(f"{urls['api']}/api/workflows/large/execute", json={}, headers=empty)
        ).json()
        command = {"command": "execute", "workflow": "large"}
        answers["cli"] = (await client.post(f"{urls['cli']}/cli", json=command, headers=empty)).json()
        async with websockets.connect(urls["api"].replace("http", "ws", 1) + "/api/ws") as socket:
            await socket.send(json.dumps({"type": "execute", "id": 1, "workflow": "large", "idempotency_key": ""}))
            answers["websocket"] = json.loads(await asyncio.wait_for(socket.recv(), 60))["error"]
        async with Client(streamable_http_client(f"{urls['mcp']}/mcp", http_client=client)) as mcp:
            called = await mcp.call_tool("large", {}, meta={"nexus/idempotency-key": ""})
            answers["mcp"] = (called.meta or {})["nexus/error"]
    details = {channel: (each.get("error") or each)["detail"] for channel, each in answers.items()}
    assert set(details.values()) == {"The idempotency key is empty. Send a unique key for each call, or none."}
    assert platform.under_way == 0
