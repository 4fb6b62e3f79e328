"""What run stores cost: background calls, plain calls, following, and listings among many runs.

    python tests/benchmarks/run_stores.py sqlite|postgres [--runs 1000000]

prints the figures. It needs the plugin ``runs`` and the tools of the tests; the runs are stored in a temporary place.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from nexus_core.runs.record import RunChange, RunCursor, RunEvent, RunFilter, RunRecord
from nexus_core.runs.retention import RunRetention
from nexus_core.runs.status import RunStatus, new_run_id
from nexus_core.runs.store import RunStore

sys.path.insert(0, str(Path(__file__).parents[1] / "services"))

CALLS, CONCURRENCY = 2000, 50
FILLED = 500
SEED = 1


@asynccontextmanager
async def opened(kind: str, *executors: str) -> AsyncIterator[list[RunStore]]:
    """Open stores of one new place."""
    with tempfile.TemporaryDirectory(prefix="nexus-runs-") as folder:
        stores, end = (_sqlite if kind == "sqlite" else _postgres)(Path(folder), len(executors))
        try:
            for store, executor in zip(stores, executors, strict=True):
                await store.open(executor)
            yield stores
            for store in stores:
                await store.close()
        finally:
            end()


def _sqlite(folder: Path, count: int) -> tuple[list[RunStore], Any]:
    from nexus_runs.sqlite_store import SqliteRunStore

    return [SqliteRunStore(folder / "runs.db") for _ in range(count)], lambda: None


def _postgres(folder: Path, count: int) -> tuple[list[RunStore], Any]:
    from nexus_runs.postgres_store import PostgresRunStore
    from postgres_service import PostgresServer

    server = PostgresServer(folder)
    server.start()
    return [PostgresRunStore(server.url, timeout=60.0) for _ in range(count)], server.kill


def record(**members: Any) -> RunRecord:
    """Return a run that begins now."""
    given: dict[str, Any] = {"accepted_at": time.time(), "executor": "one", "params": b'{"a":1,"b":2}'} | members
    return RunRecord(new_run_id(), **({"workflow": "add", "channel": "api"} | given))


def end_of(begun: RunRecord) -> RunChange:
    """Return the end of a run."""
    return RunChange(
        begun.id, status=RunStatus.COMPLETED, finished_at=time.time(), result=b"3", last_event=2, duration=0.01
    )


async def background(store: RunStore) -> float:
    """Return how many background calls begin and end in a second; each is stored twice."""

    async def call() -> None:
        for _ in range(CALLS // CONCURRENCY):
            begun = record()
            await store.begin(begun, RunStatus.RUNNING)
            await store.end(end_of(begun))

    begin = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(CONCURRENCY)))
    return CALLS / (time.perf_counter() - begin)


async def plain(store: RunStore) -> tuple[float, float]:
    """Return what a plain call pays for being stored, in microseconds: in its own time, and of the processor in all."""
    own, processor = 0.0, time.process_time()
    for _ in range(CALLS):
        begun = record()
        change = replace(end_of(begun), record=begun, started_at=begun.accepted_at)
        begin = time.perf_counter()
        store.write_later(change)
        own += time.perf_counter() - begin
        if _ % 50 == 0:
            await asyncio.sleep(0.001)
    while store.statistics()["waiting"]:
        await asyncio.sleep(0.005)
    return own / CALLS * 1e6, (time.process_time() - processor) / CALLS * 1e6


async def following(writer: RunStore, reader: RunStore) -> list[float]:
    """Return how many seconds after their writing events reach a follower in another process, in order."""
    begun, delays = record(), []
    await writer.begin(begun)

    async def follow() -> None:
        async for event in reader.follow(begun.id):
            if event is not None and "time" in (members := event.to_dict()):
                delays.append(time.time() - members["time"])

    follower = asyncio.create_task(follow())
    for number in range(1, 301):
        await writer.append(begun.id, 1, [RunEvent(number, b'{"time":%f}' % time.time())])
        await asyncio.sleep(random.Random(number).uniform(0.005, 0.02))
    await writer.end(replace(end_of(begun), last_event=301))
    await follower
    return sorted(delays)


async def fill(store: RunStore, runs: int) -> None:
    """Store runs of many callers and workflows, the last of which go on."""
    chance = random.Random(SEED)
    begin = time.time() - runs * 0.05
    for start in range(0, runs, FILLED):
        changes = []
        for number in range(start, min(start + FILLED, runs)):
            accepted_at = begin + number * 0.05
            run_id = f"{int(accepted_at * 1000):012x}{chance.getrandbits(80):020x}"
            workflow, owner = (min(int(chance.expovariate(rate)), most) for rate, most in ((0.1, 200), (0.05, 5000)))
            channel = chance.choice(["api"] * 8 + ["cli", "mcp"])
            begun = RunRecord(
                run_id, f"workflow-{workflow}", channel, accepted_at, b'{"a":1,"b":2}', f"owner-{owner}", executor="one"
            )
            status = RunStatus.COMPLETED if number % 10 else RunStatus.FAILED
            change = RunChange.begin(begun, RunStatus.RUNNING)
            if number < runs - 500:
                change = change.then(replace(end_of(begun), status=status, finished_at=accepted_at + 1))
            changes.append(change)
        await store.write(changes)


def filters(middle: RunCursor) -> Iterator[RunFilter]:
    """Return listings by every combination of members."""
    members: dict[str, Any] = {
        "owner": "owner-3", "workflow": "workflow-0", "status": RunStatus.FAILED, "channel": "mcp",
        "since": middle.accepted_at - 2000, "until": middle.accepted_at + 2000, "before": middle,
        "text": middle.run_id[-8:],
    }  # fmt: skip
    for count in range(len(members) + 1):
        for names in combinations(members, count):
            yield RunFilter(**{name: members[name] for name in names})
    yield RunFilter(text=middle.run_id[:8])
    yield RunFilter(owner="nobody")
    yield RunFilter(owner="owner-1", status=RunStatus.RUNNING)
    yield RunFilter(workflow="workflow-150", channel="cli")


async def listings(store: RunStore, runs: int) -> list[tuple[float, RunFilter]]:
    """Return how many seconds each listing takes at its best of five, the slowest first."""
    middle = (await store.find(RunFilter(until=time.time() - runs * 0.025, limit=1)))[0].cursor
    taken = []
    for wanted in filters(middle):
        best = float("inf")
        for _ in range(5):
            begin = time.perf_counter()
            await store.find(wanted)
            best = min(best, time.perf_counter() - begin)
        taken.append((best, wanted))
    return sorted(taken, key=lambda each: -each[0])


async def measure(kind: str, runs: int) -> None:
    """Measure everything and print it."""
    async with opened(kind, "one", "two") as (store, other):
        print(f"background calls: {await background(store):.0f}/s, {CONCURRENCY} at a time, each stored twice")
        own, processor = await plain(store)
        print(f"a plain call: {own:.1f} us of its own time, {processor:.0f} us of the processor in all")
        delays = await following(store, other)
        middle, late = delays[len(delays) // 2], delays[len(delays) * 99 // 100]
        print(f"following in another process: {middle * 1000:.0f} ms, 99th percentile {late * 1000:.0f} ms")
        begin = time.perf_counter()
        await fill(store, runs)
        print(f"filling: {runs / (time.perf_counter() - begin):.0f} runs/s")
        taken = await listings(store, runs)
        print(f"listings among {runs} runs: {len(taken)} filters, the slowest:")
        for seconds, wanted in taken[:5]:
            names = {name: each for name in wanted.__slots__ if (each := getattr(wanted, name)) is not None}
            print(f"  {seconds * 1000:.1f} ms  {', '.join(names)}")
        begin = time.perf_counter()
        pruned = await store.prune(RunRetention(max_runs=runs // 2))
        print(f"a pass of pruning: {pruned.runs} runs in {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", choices=["sqlite", "postgres"])
    parser.add_argument("--runs", type=int, default=1_000_000)
    given = parser.parse_args()
    asyncio.run(measure(given.store, given.runs))
