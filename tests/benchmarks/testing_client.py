"""What a test through three channels costs, from making the platform to closing it, with every plugin installed."""

from __future__ import annotations

import time
from typing import Any

from figures import Row, paired
from nexus_testing import NexusTestClient

from nexus_core import Nexus

TITLE = "o. A test through three channels"
LIMIT_MS = 100.0


def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}!"


def three_channels() -> None:
    """What such a test does."""
    nexus = Nexus()
    nexus.register("greet", greet)
    params: dict[str, Any] = {"name": "Ada"}
    with NexusTestClient(nexus) as client:
        assert client.post("/api/workflows/greet/execute", params).json()["result"] == "Hello, Ada!"
        assert client.cli("execute greet --name Ada").json()["result"] == "Hello, Ada!"
        assert client.mcp_call("greet", params)["result"] == "Hello, Ada!"


async def compare(rounds: int) -> list[Row]:
    """Compare it with the limit; the first one, which imports the libraries, is not counted."""
    three_channels()

    async def ours() -> dict[str, float]:
        begin, processor = time.perf_counter(), time.process_time()
        three_channels()
        used = time.process_time() - processor
        return {"value": 1000 * (time.perf_counter() - begin), "cpu_us": 1e6 * used}

    async def limit() -> dict[str, float]:
        return {"value": LIMIT_MS}

    return [await paired(Row(TITLE, "REST, CLI, MCP", f"{LIMIT_MS:g} ms", "ms", 1, "lower"), ours, limit, rounds)]
