"""Calls of one session that run one at a time, on every channel; alone, and in two processes that share a store."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import mcp_calls
import pytest
import websockets
from served import command_line

if TYPE_CHECKING:
    from pathlib import Path

ITEMS = 30


async def made(client: httpx2.AsyncClient, process: Any) -> str:
    """Return the id of a new session."""
    return str((await client.post(f"{process.urls['api']}/api/sessions")).json()["session_id"])


async def items(client: httpx2.AsyncClient, process: Any, session_id: str) -> list[int]:
    shown = (await client.get(f"{process.urls['api']}/api/sessions/{session_id}")).json()
    return list(shown["state"]["items"])


@pytest.fixture(params=["memory", "two with sqlite", "two with redis", "two with sessions in redis"], name="served")
def served_fixture(request: pytest.FixtureRequest, start: Any, redis_server: Any, tmp_path: Path) -> list[Any]:
    """Two processes that share their state, or one, twice."""
    if request.param == "memory":
        return [start()] * 2
    if request.param == "two with sqlite":
        shared: dict[str, Any] = {"store": "sqlite", "sqlite_path": tmp_path / "state.db"}
    else:
        shared = {"redis_url": redis_server.url, "redis_timeout": 10}
        shared["session_backend" if "sessions" in request.param else "store"] = "redis"
    return [start(**shared) for _ in range(2)]


async def test_no_item_is_lost_over_rest(served: list[Any]) -> None:
    limits = httpx2.Limits(max_connections=ITEMS)
    async with httpx2.AsyncClient(timeout=60, limits=limits) as client:
        session_id = await made(client, served[0])
        headers = {"x-nexus-session": session_id}

        async def collect(number: int) -> int:
            url = f"{served[number % 2].urls['api']}/api/workflows/collect/execute"
            answer = await client.post(url, json={"item": number}, headers=headers)
            assert answer.status_code == 200, answer.text
            return int(answer.json()["result"])

        counts = await asyncio.gather(*map(collect, range(ITEMS)))
        assert sorted(counts) == list(range(1, ITEMS + 1))
        assert sorted(await items(client, served[1], session_id)) == list(range(ITEMS))


async def test_no_item_is_lost_over_all_channels(served: list[Any]) -> None:
    async with httpx2.AsyncClient(timeout=60) as client:
        session_id = await made(client, served[0])
        headers = {"x-nexus-session": session_id}

        async def over_websocket(process: Any, numbers: list[int]) -> None:
            address = process.urls["api"].replace("http", "ws", 1) + "/api/ws"
            async with websockets.connect(address, additional_headers=headers) as socket:
                for number in numbers:
                    message = {"type": "execute", "id": number, "workflow": "collect", "params": {"item": number}}
                    await socket.send(json.dumps(message))
                left = set(numbers)
                while left:
                    answer = json.loads(await asyncio.wait_for(socket.recv(), 30))
                    if answer["type"] != "event":
                        assert answer["type"] == "result", answer
                        left.discard(answer["id"])

        async def over_rest(process: Any, number: int) -> None:
            url = f"{process.urls['api']}/api/workflows/collect/execute"
            answer = await client.post(url, json={"item": number}, headers=headers)
            assert answer.status_code == 200, answer.text

        async def over_cli(process: Any, number: int) -> None:
            options = ["--session", session_id, "--json"]
            code, _, errors = await command_line(process, *options, "execute", "collect", "--item", str(number))
            assert code == 0, errors

        async def over_mcp(process: Any, number: int) -> None:
            called = await mcp_calls.call(client, process, "collect", {"item": number}, session_id)
            assert not called["isError"], called

        one, other = served
        await asyncio.gather(
            over_websocket(one, list(range(6))), over_websocket(other, list(range(6, 12))),
            *(over_rest(served[number % 2], number) for number in range(12, 18)),
            *(over_mcp(served[number % 2], number) for number in range(18, 24)),
            over_cli(one, 24), over_cli(other, 25),
        )  # fmt: skip
        assert sorted(await items(client, one, session_id)) == list(range(26))


PROGRAM = """
import asyncio, sys
import nexus_redis.plugin, nexus_sessions.plugin
from nexus_core import Invocation, Nexus
from nexus_core.state import heartbeat, shared_queues

heartbeat.LIFE_SECONDS, heartbeat.BEAT_SECONDS, heartbeat.RETRY_SECONDS = 2.0, 0.2, 0.1
shared_queues.DEATH_SECONDS = 0.2
plugins = [nexus_redis.plugin.RedisPlugin, nexus_sessions.plugin.SessionPlugin]
nexus = Nexus(discover=False, plugins=plugins, **eval(sys.argv[1]))

@nexus.workflow(serial="account")
async def pay(account: str, seconds: float = 0.0) -> str:
    print("it runs", flush=True)
    await asyncio.sleep(seconds)
    return account

async def main():
    async with nexus:
        await nexus.invoke(Invocation("pay", {"account": "a", "seconds": float(sys.argv[2])}))
    print("it has ended", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_the_turn_of_a_killed_process_passes_on(store: str, tmp_path: Path, redis_server: Any) -> None:
    options: dict[str, Any] = {"store": store}
    if store == "sqlite":
        options["sqlite_path"] = str(tmp_path / "state.db")
    else:
        options |= {"redis_url": redis_server.url, "redis_timeout": 10.0}

    async def begin(seconds: float) -> Any:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, repr(options), str(seconds), stdout=asyncio.subprocess.PIPE
        )

    first = await begin(3600)
    second = None
    try:
        assert first.stdout is not None
        assert await asyncio.wait_for(first.stdout.readline(), 60) == b"it runs\n"
        second = await begin(0)
        assert second.stdout is not None
        with pytest.raises(TimeoutError):  # longer than a process counts as alive without a sign of life
            await asyncio.wait_for(second.stdout.readline(), 5)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        assert await asyncio.wait_for(second.stdout.readline(), 60) == b"it runs\n"
        assert await asyncio.wait_for(second.stdout.readline(), 60) == b"it has ended\n"
    finally:
        for process in (first, second):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
