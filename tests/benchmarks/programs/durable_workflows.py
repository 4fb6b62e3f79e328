"""Durable workflows, and a process that works on them: ``python durable_workflows.py OPTIONS``, options as JSON.

It says ``ready``, and ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from nexus_core import Context, Nexus

STEPS = 10


async def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


async def begun() -> float:
    """Return when the work began, in seconds since the epoch."""
    return time.time()


async def stepped(context: Context, a: int) -> int:
    """Add some numbers in steps."""
    for number in range(STEPS):
        a = (await context.step("add", add, a, number))["sum"]
    return a


def platform(**options: Any) -> Nexus:
    """Return a platform without channels; ``plain`` and ``durable`` are the same function."""
    nexus = Nexus(disabled_plugins=["api", "cli", "mcp"], log_level="ERROR", **options)
    nexus.register("plain", add)
    if options.get("run_engine"):
        nexus.register("durable", add, {"durable": True})
        nexus.register("begun", begun, {"durable": True})
        nexus.register("stepped", stepped, {"durable": True})
    return nexus


async def work(options: dict[str, Any]) -> None:
    """Work until the input ends."""
    async with platform(**options):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
