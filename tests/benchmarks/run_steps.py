"""What a step costs, compared with the same call without one in the same run."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from figures import Row

from nexus_core import Context, Nexus

CALLS = 1000
MICROSECONDS = 30.0


async def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


async def work(context: Context) -> list[float]:
    """Return the microseconds of a call as a step and of a call without, in processor time of this thread."""
    taken = []
    for as_step in (True, False):
        begin = time.thread_time()
        for number in range(CALLS):
            value = await (context.step("add", add, number, 2) if as_step else add(number, 2))
        taken.append(1e6 * (time.thread_time() - begin) / CALLS)
        assert value == {"sum": CALLS + 1}
    return taken


async def compare(rounds: int) -> list[Row]:
    """Measure steps of runs in memory, and of runs in SQLite where the plugin is installed."""
    title = "p. A step of a workflow"
    rows = [await _measured(Row(title, "in process", "30 us", "us", 1, "lower"), rounds, {})]
    if find_spec("nexus_runs"):
        with TemporaryDirectory() as folder:
            options = {"run_store": "sqlite", "runs_sqlite_path": Path(folder) / "runs.db"}
            rows.append(await _measured(Row(title, "run store sqlite", unit="us"), rounds, options))
    return rows


async def _measured(row: Row, rounds: int, options: dict[str, Any]) -> Row:
    nexus = Nexus(disabled_plugins=["api", "cli", "mcp"], **options)
    nexus.register("work", work)
    async with nexus:
        for _ in range(rounds):
            as_step, direct = (await nexus.invoke("work", {})).value
            row.ours.append({"value": as_step - direct})
            if row.against:
                row.theirs.append({"value": MICROSECONDS})
    return row
