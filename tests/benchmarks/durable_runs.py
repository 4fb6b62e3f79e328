"""What durable runs cost: overhead of runs and steps, delay and throughput with workers, and what idle ones need."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from figures import Row, paired

from nexus_core import Invocation, Nexus

PROGRAMS = Path(__file__).parent / "programs"
sys.path[:0] = [str(PROGRAMS), str(Path(__file__).parents[1] / "services")]

from durable_workflows import STEPS, platform  # noqa: E402

TITLE = "r. Durable runs"
SEED = 1
OVERHEAD_MS = {"sqlite": 6.0, "postgres": 20.0}
DELAY_MS, RUNS_PER_SECOND, IDLE_PERCENT = 60.0, 150.0, 3.0
CALLS, AT_ONCE = 20, 50
PLAIN_CALLS = 500


class Places:
    """Where durable runs are stored: a folder for SQLite, and a server of PostgreSQL.

    Attributes:
        server: The server, where it was started.
    """

    def __init__(self, folder: Path, server: Any = None) -> None:
        self._folder, self.server = folder, server
        self._count = 0

    def options(self, store: str) -> dict[str, Any]:
        """Return options of a platform with tables of its own."""
        self._count += 1
        name = f"place{self._count}"
        options: dict[str, Any] = {"run_engine": "dbos", "run_store": store}
        if store == "sqlite":
            files = {"runs": f"{name}_runs.db", "dbos": f"{name}_dbos.db"}
            return options | {f"{plugin}_sqlite_path": str(self._folder / file) for plugin, file in files.items()}
        for plugin in ("runs", "dbos"):
            options |= {f"{plugin}_postgres_url": self.server.url, f"{plugin}_postgres_schema": f"{name}_{plugin}"}
        return options

    def cpu_seconds(self) -> float:
        """Return the processor time of the server and of all its processes, those that have ended too."""
        root, ticks = self.server._process.pid, 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if path.parent.name == str(root):
                ticks += sum(map(int, fields[11:15]))
            elif fields[1] == str(root):
                ticks += sum(map(int, fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def places(stores: tuple[str, ...] = ("sqlite", "postgres")) -> Iterator[Places]:
    """Make them, start the server where it is wanted, and remove them."""
    from postgres_service import PostgresServer

    with TemporaryDirectory(prefix="nexus-benchmark-") as folder:
        if "postgres" not in stores:
            yield Places(Path(folder))
            return
        home = Path(folder, "postgres")
        home.mkdir()
        Path(folder).chmod(0o711)  # the server may run as another user
        server = PostgresServer(home)
        server.start()
        try:
            yield Places(Path(folder), server)
        finally:
            server.kill()


class WorkerProcess:
    """A process that works on durable runs."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "durable_workflows.py"), json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    async def ready(self) -> None:
        """Wait until it works."""
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line == b"ready\n", line

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it, and wait."""
        self._process.communicate()


@asynccontextmanager
async def fleet(
    options: dict[str, Any], gateways: int, workers: int
) -> AsyncIterator[tuple[list[Nexus], list[WorkerProcess]]]:
    """Open gateways in this process, and workers in others."""
    async with AsyncExitStack() as stack:
        gates = [await stack.enter_async_context(platform(run_work=False, **options)) for _ in range(gateways)]
        started = [WorkerProcess(options) for _ in range(workers)]
        for each in started:
            stack.callback(each.end)
        await asyncio.gather(*(each.ready() for each in started))
        yield gates, started


async def one_after_the_other(nexus: Nexus, workflow: str, calls: int = CALLS, **params: int) -> dict[str, float]:
    """Return the median milliseconds of a call."""
    taken = []
    for number in range(calls):
        begin = time.perf_counter()
        await nexus.invoke(workflow, {"a": number, **params})
        taken.append(1000 * (time.perf_counter() - begin))
    return {"value": median(taken)}


async def overhead(store: str, options: dict[str, Any], rounds: int) -> list[Row]:
    """Measure what a run and what a step cost more than a call in process, and what that one pays for the engine."""
    limit = OVERHEAD_MS[store]
    run = Row(TITLE, f"overhead of a run, {store}", f"{limit:g} ms", "ms", 1, "lower")
    step = Row(TITLE, f"a step, {store}", unit="ms")
    async with platform(**options) as nexus:
        for number in range(rounds + 1):
            plain = await one_after_the_other(nexus, "plain", b=1)
            durable = await one_after_the_other(nexus, "durable", b=1)
            stepped = await one_after_the_other(nexus, "stepped", CALLS // 4)
            if number:  # the first is to warm up
                run.ours.append({"value": durable["value"] - plain["value"]})
                run.theirs.append({"value": limit})
                step.ours.append({"value": (stepped["value"] - durable["value"]) / STEPS})
    return [run, step]


async def in_process(with_engine: dict[str, Any], rounds: int) -> Row:
    """Compare a call in process where the engine is open with the same call where there is none."""
    row = Row(TITLE, "a call in process, engine open", "without an engine", "calls/s", 0.95)
    without = {name: value for name, value in with_engine.items() if not name.startswith(("run_engine", "dbos"))}
    without["runs_sqlite_path"] += ".other"
    async with platform(run_work=False, **with_engine) as ours, platform(**without) as theirs:

        async def measure(nexus: Nexus) -> dict[str, float]:
            begin = time.thread_time()
            for number in range(PLAIN_CALLS):
                await nexus.invoke("plain", {"a": number, "b": 2})
            return {"value": PLAIN_CALLS / (time.thread_time() - begin)}

        return await paired(row, partial(measure, ours), partial(measure, theirs), 3 * rounds)


async def delays(gateway: Nexus, runs: int) -> list[float]:
    """Return the milliseconds from a call to the beginning of its work in another process, ascending."""
    taken, chance = [], random.Random(SEED)
    for _ in range(runs):
        await asyncio.sleep(chance.uniform(0.05, 0.3))
        begin = time.time()
        taken.append(1000 * ((await gateway.invoke("begun", {})).value - begin))
    return sorted(taken)


async def throughput(gateways: list[Nexus], runs: int, workflow: str = "durable") -> float:
    """Return how many runs a second are accepted and done, some at a time."""
    left = iter(range(runs))

    async def some(nexus: Nexus) -> None:
        for number in left:
            params = {"a": number, "b": 1} if workflow == "durable" else {"a": number}
            with nexus.submit(Invocation(workflow, params)).hold() as run:
                await run.outcome()

    begin = time.perf_counter()
    await asyncio.gather(*(some(gateways[number % len(gateways)]) for number in range(AT_ONCE)))
    return runs / (time.perf_counter() - begin)


async def idle(workers: list[WorkerProcess], seconds: float) -> float:
    """Return the percent of a core that a worker without work uses."""
    before = [each.cpu_seconds() for each in workers]
    begin = time.perf_counter()
    await asyncio.sleep(seconds)
    used = median(each.cpu_seconds() - was for each, was in zip(workers, before, strict=True))
    return 100 * used / (time.perf_counter() - begin)


async def with_workers(store: str, options: dict[str, Any], rounds: int) -> list[Row]:
    """Measure one gateway with two workers: delay, throughput, and what idle workers need."""
    delay = Row(TITLE, f"from the call to the work elsewhere, {store}", f"{DELAY_MS:g} ms", "ms", 1, "lower")
    rate = Row(TITLE, f"two workers, {AT_ONCE} at a time, {store}", unit="runs/s")
    if store == "postgres":
        rate.against, rate.target = f"{RUNS_PER_SECOND:g}/s", 1.0
    rest = Row(TITLE, f"an idle worker, {store}", f"{IDLE_PERCENT:g} %", "% of a core", 1, "lower")
    async with fleet(options, 1, 2) as (gateways, workers):
        await throughput(gateways, 100)
        for _ in range(min(rounds, 10)):
            rate.ours.append({"value": await throughput(gateways, 300)})
            rate.theirs.append({"value": RUNS_PER_SECOND})
            delay.ours.append({"value": median(await delays(gateways[0], 10))})
            delay.theirs.append({"value": DELAY_MS})
        for _ in range(3):
            rest.ours.append({"value": await idle(workers, min(rounds, 10.0))})
            rest.theirs.append({"value": IDLE_PERCENT})
    return [delay, rate, rest]


async def compare(rounds: int) -> list[Row]:
    """Measure all of it on SQLite and PostgreSQL."""
    rows = []
    with places() as there:
        for store in ("sqlite", "postgres"):
            rows += await overhead(store, there.options(store), rounds)
            rows += await with_workers(store, there.options(store), rounds)
        rows.append(await in_process(there.options("sqlite"), rounds))
    return rows
