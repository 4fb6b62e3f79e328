"""Calls of a workflow in this process, without any channel."""

from __future__ import annotations

import time
from typing import Self

from nexus_core import Nexus

CALLS = 1000


async def add(a: int, b: int) -> dict:
    """Add two numbers."""
    return {"sum": a + b}


class Invocations:
    """A `Nexus` with some number of workflows, without plugins."""

    def __init__(self, workflows: int) -> None:
        self._nexus = Nexus(discover=False)
        for number in range(workflows):
            self._nexus.register(f"add{number}", add)

    async def __aenter__(self) -> Self:
        await self._nexus.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._nexus.__aexit__(None, None, None)

    async def measure(self) -> dict[str, float]:
        """Call one workflow `CALLS` times and return the calls in a second of processor time."""
        begin = time.thread_time()
        for number in range(CALLS):
            result = await self._nexus.invoke("add7", {"a": number, "b": 2})
        seconds = time.thread_time() - begin
        assert result.value == {"sum": CALLS + 1}
        return {"value": CALLS / seconds, "cpu_us": 1e6 * seconds / CALLS}
