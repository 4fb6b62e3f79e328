"""What a run store costs calls: the same call with a run store and without, and background calls."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from figures import Row, paired

from nexus_core import Invocation, Nexus

TITLE = "q. Calls with a run store"
CALLS = 2000
AT_ONCE = 50
SQLITE_PER_SECOND, POSTGRES_PER_SECOND = 500.0, 300.0


async def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@asynccontextmanager
async def platform(**options: Any) -> AsyncIterator[Nexus]:
    """Open a platform without channels."""
    nexus = Nexus(disabled_plugins=["api", "cli", "mcp"], log_level="ERROR", **options)
    nexus.register("add", add)
    async with nexus:
        yield nexus


async def plain_calls(nexus: Nexus) -> dict[str, float]:
    """Return how many calls, one after the other, are done in a second, and the processor time of each in all threads.

    That time includes what is stored after the last one.
    """
    begin, processor = time.perf_counter(), time.process_time()
    for number in range(CALLS):
        result = await nexus.invoke("add", {"a": number, "b": 2})
    seconds = time.perf_counter() - begin
    assert result.value == {"sum": CALLS + 1}
    await _all_stored(nexus)
    return {"value": CALLS / seconds, "cpu_us": 1e6 * (time.process_time() - processor) / CALLS}


async def _all_stored(nexus: Nexus) -> None:
    waiting = [each for each in nexus.measurements() if each.name == "nexus_run_store_waiting"]
    while any(number for each in waiting for _, number in each.read()):
        await asyncio.sleep(0.002)


async def background_calls(nexus: Nexus) -> dict[str, float]:
    """Return how many background calls, some at a time, are begun and done in a second."""

    async def some() -> None:
        for number in range(CALLS // AT_ONCE):
            with nexus.submit(Invocation("add", {"a": number, "b": 2})).hold() as run:
                await run.outcome()

    begin = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return {"value": CALLS / (time.perf_counter() - begin)}


async def in_process(rounds: int) -> list[Row]:
    """Compare plain calls with the run stores sqlite and memory, and measure background calls on the former."""
    row = Row(TITLE, "invoke, sqlite", "memory", "calls/s")
    async with sqlite() as stored, platform() as memory:
        await paired(row, partial(plain_calls, stored), partial(plain_calls, memory), rounds)
        return [row, await _background("sqlite", stored, rounds, SQLITE_PER_SECOND)]


@asynccontextmanager
async def sqlite() -> AsyncIterator[Nexus]:
    """Open a platform with the run store sqlite."""
    with TemporaryDirectory(prefix="nexus-benchmark-") as folder:
        async with platform(run_store="sqlite", runs_sqlite_path=Path(folder) / "runs.db") as nexus:
            yield nexus


async def on_postgres(rounds: int) -> list[Row]:
    """Measure background calls on PostgreSQL, a server of which is started."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "services"))
    from postgres_service import PostgresServer

    with TemporaryDirectory(prefix="nexus-benchmark-") as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            async with platform(run_store="postgres", runs_postgres_url=server.url) as nexus:
                return [await _background("postgres", nexus, rounds, POSTGRES_PER_SECOND)]
        finally:
            server.kill()


async def _background(name: str, nexus: Nexus, rounds: int, target: float) -> Row:
    row = Row(TITLE, f"background, {AT_ONCE} at a time, {name}", f"{target:g}/s", "calls/s", 1)
    for _ in range(rounds):
        row.ours.append(await background_calls(nexus))
        row.theirs.append({"value": target})
    return row
