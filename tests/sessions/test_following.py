"""Followers of events while processes are killed and started again, and many of them at a time."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import mcp_calls
import pytest
from websockets.asyncio.client import connect

from nexus_core.testing import eventually

CHANGES = 200


class Follower:
    """Follows a session as a browser's EventSource does: it comes back with the last id it has got."""

    def __init__(self, client: httpx2.AsyncClient, urls: list[str], session_id: str) -> None:
        self.versions: list[int] = []
        self.kinds: set[str] = set()
        self.connections = 0
        self._client = client
        self._urls = urls
        self._session_id = session_id
        self._last_id: str | None = None
        self.is_following = asyncio.Event()

    async def run(self) -> None:
        while True:
            with suppress(httpx2.TransportError):
                await self._connect(self._urls[self.connections % len(self._urls)])
            self.connections += 1
            await asyncio.sleep(0.02)

    async def _connect(self, url: str) -> None:
        headers = {} if self._last_id is None else {"last-event-id": self._last_id}
        params = {"session": self._session_id}
        async with self._client.stream("GET", f"{url}/api/events", headers=headers, params=params) as answer:
            if answer.status_code != 200:
                return
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    self._last_id = value
                    self.is_following.set()
                elif name == "event":
                    self.kinds.add(value)
                elif name == "data":
                    event = json.loads(value)
                    if event["type"] == "session.updated":
                        self.versions.append(event["data"]["version"])


@pytest.mark.parametrize("ends", ["kill", "stop"])
async def test_who_follows_loses_and_repeats_nothing(start: Any, redis_server: Any, ends: str) -> None:
    shared = {"redis_url": redis_server.url, "redis_timeout": 10, "session_backend": "redis", "shutdown_grace": 1}
    writer, first, second = (start(**shared) for _ in range(3))
    async with httpx2.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as group:
        api = writer.urls["api"]
        session_id = (await client.post(f"{api}/api/sessions")).json()["session_id"]
        addresses = [[first, second], [second, first], [first], [second]]
        followers = [Follower(client, [each.urls["api"] for each in one], session_id) for one in addresses]
        tasks = [group.create_task(follower.run()) for follower in followers]
        for follower in followers:
            await follower.is_following.wait()
        for number in range(CHANGES):
            answer = await client.patch(f"{api}/api/sessions/{session_id}", json={"state": {"n": number}})
            assert answer.json()["version"] == number + 2
            if number in (50, 120):
                process = first if number == 50 else second
                getattr(process, ends)()
                group.create_task(asyncio.to_thread(process.start))
        for follower in followers:
            await eventually(lambda follower=follower: len(follower.versions) >= CHANGES, 20)
            assert follower.versions == [*range(2, CHANGES + 2)]
            # The session's creation may be on its way through Redis still when they begin.
            assert follower.kinds - {"session.created"} == {"session.updated"}
            assert follower.connections > 0
        for task in tasks:
            task.cancel()


async def test_a_restart_without_redis_is_told(start: Any) -> None:
    """Nobody knows what happened before: the follower is told that it may have missed something."""
    process = start()
    async with httpx2.AsyncClient(timeout=30) as client:
        async with client.stream("GET", f"{process.urls['api']}/api/events") as answer:
            last_id = (await anext(answer.aiter_lines())).removeprefix("id: ")
        process.kill()
        await asyncio.to_thread(process.start)
        headers = {"last-event-id": last_id}
        async with client.stream("GET", f"{process.urls['api']}/api/events", headers=headers) as answer:
            lines = answer.aiter_lines()
            while (line := await anext(lines)) != "event: events.missed":
                assert not line.startswith("event:")


async def test_many_followers_hear_and_leave(start: Any) -> None:
    """The benchmarks have times and memory for a thousand; here it is that each hears and none is left behind."""
    process, count = start(), 200
    async with httpx2.AsyncClient(timeout=30) as client, AsyncExitStack() as stack:
        api = process.urls["api"]
        url = api.replace("http", "ws") + "/api/ws"
        before = _descriptors(process)
        sockets = await asyncio.gather(*(stack.enter_async_context(connect(url)) for _ in range(count)))
        for socket in sockets:
            await socket.send('{"type": "events", "id": 1}')
        for socket in sockets:
            assert json.loads(await socket.recv())["type"] == "following"
        run_id = (await client.post(f"{api}/api/workflows/add/execute", json={"a": 1})).json()["run_id"]
        for socket in sockets:
            told = [json.loads(await asyncio.wait_for(socket.recv(), 10))["event"] for _ in range(2)]
            assert [event["type"] for event in told] == ["workflow.started", "workflow.completed"]
            assert {event["run_id"] for event in told} == {run_id}
        await stack.aclose()
        await eventually(lambda: _descriptors(process) <= before + 3, 10)


def _descriptors(process: Any) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


async def test_a_follower_that_never_reads_holds_up_nobody_and_costs_little(start: Any) -> None:
    process = start()
    async with httpx2.AsyncClient(timeout=30) as client:
        api = process.urls["api"]
        session_id = (await client.post(f"{api}/api/sessions")).json()["session_id"]
        reader, writer = await asyncio.open_connection("127.0.0.1", process.ports["api"], limit=1)
        writer.write(b"GET /api/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await writer.drain()
        await reader.read(1)  # from now on it does not read
        await mcp_calls.read(client, process, "nexus://workflows/add")  # this channel's library needs memory of its own
        before = _megabytes(process)
        state = {"state": {"x" * 1000: "y" * 10_000}}
        for number in range(1500):
            state["state"]["n"] = number
            answer = await client.patch(f"{api}/api/sessions/{session_id}", json=state)
            assert answer.status_code == 200
        assert _megabytes(process) < before + 30
        writer.close()


def _megabytes(process: Any) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
