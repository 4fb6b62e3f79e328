"""Durable runs under abuse: gateways and workers that are killed at random, and a database that is restarted.

    make chaos CHAOS_OPTIONS="--store postgres --runs 1000"

Steps write to one file when they begin and when their outcome is recorded, so that what holds is checked from outside:

- Every run that was accepted ends, with the right result, and once.
- A step whose outcome was recorded never begins again.
- Every repeat of an unfinished step has a kill or an outage of its own: the process that began it before was killed, or
  the database was down since.
- A key starts one run, however often a call is repeated with it.
- The events of a run are numbered without a gap.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from forked_processes import ForkedProcesses
from served_process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postgres_service import PostgresServer

STEPS = 5
OPEN = 40
"""Runs at once: more are begun when some have ended."""

READY = b" INFO nexus_core.app."
"""What processes write when they have started."""

SECONDS = 120.0
"""How long anything may take that has to happen."""

HASTY = """
from nexus_core.pipeline import durable
from nexus_core.state import heartbeat
heartbeat.LIFE_SECONDS, heartbeat.BEAT_SECONDS, heartbeat.RETRY_SECONDS = 4.0, 0.4, 0.2
durable.SWEEP_SECONDS, durable.ORPHAN_SECONDS = 1.0, 5.0
"""
"""What is decided about a call whose gateway has died halfway takes seconds then, not half a minute."""

APP = """
import asyncio, os, random
from nexus_core import Context, Nexus

nexus = Nexus()
LOG = os.open("steps.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(*words):
    os.write(LOG, (" ".join(map(str, [words[0], os.getpid(), *words[1:]])) + "\\n").encode())


async def work(run_id, key, number, value):
    write("begin", run_id, key, number)
    await asyncio.sleep(random.expovariate(1 / 0.2))
    return value + number


def work_in_thread(run_id, key, number, value):
    write("begin", run_id, key, number)
    return value + number


@nexus.workflow(durable=True, timeout=None)
async def order(context: Context, key: int) -> int:
    write("start", context.run_id, key)
    value = key
    for number in range(5):
        step = work_in_thread if number == 3 else work
        value = await context.step(f"step {number}", step, context.run_id, key, number, value)
        write("recorded", context.run_id, key, number)
        context.output(number)
    return value
"""
"""Steps take some time, exponentially distributed: a kill hits some at their beginning, others long after it."""


@dataclass
class Plan:
    """What is done.

    Attributes:
        runs: How many runs.
        seconds: In how many seconds they are started.
        seed: Of everything that is random here.
        restarts: Immediate restarts of PostgreSQL.
        pause: Seconds between two kills: at least and at most.
        gateways: Processes that take calls.
        workers: Processes that work.
        kills: The most kills; None: without a limit.
        sampled: Runs whose events are checked.
        is_hasty: See `HASTY`.
    """

    runs: int
    seconds: float
    seed: int
    restarts: int = 0
    pause: tuple[float, float] = (1.0, 3.0)
    gateways: int = 2
    workers: int = 2
    kills: int | None = None
    sampled: int = 50
    is_hasty: bool = False


@dataclass
class Figures:
    """What has happened."""

    accepted: int = 0
    ended: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    started_again: int = 0
    retries: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    take_overs: int = 0
    repeats: int = 0
    repeats_by_outage: int = 0
    most_repeats: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Fleet:
    """The gateways and the workers. Whoever is killed is replaced at once, on the same port.

    Args:
        processes: Starts them.
        folder: Where they run.
        options: Options of all of them.
        plan: How many.
    """

    def __init__(self, processes: ForkedProcesses, folder: Path, options: dict[str, str], plan: Plan) -> None:
        (folder / "app.py").write_text(plan.is_hasty * HASTY + APP)
        self._log = os.open(folder / "steps.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._processes, self._folder, self._options = processes, folder, options
        self.ports = {f"gateway{number}": free_port() for number in range(plan.gateways)}
        self.gateways = [f"http://127.0.0.1:{port}" for port in self.ports.values()]
        self.names = [*self.ports, *(f"worker{number}" for number in range(plan.workers))]
        self._begins: dict[str, int] = {}
        self._pids = {name: self._start(name) for name in self.names}

    def _start(self, name: str) -> int:
        own, command = self._options, "worker"
        if name in self.ports:
            own, command = own | {"NEXUS_API_PORT": str(self.ports[name]), "NEXUS_RUN_WORK": "false"}, "serve"
        (self._folder / f"{name}.log").touch()
        self._begins[name] = len(self._output(name))
        return self._processes.start(self._folder, name, own, [command, "app:nexus"])

    def ready(self) -> list[str]:
        """Return the processes that have started: to kill one before that would do nothing to a run."""
        return [name for name, begin in self._begins.items() if READY in self._output(name)[begin:]]

    def _output(self, name: str) -> bytes:
        return (self._folder / f"{name}.log").read_bytes()

    def write(self, *words: Any) -> None:
        """Write to the file of the steps."""
        os.write(self._log, (" ".join(map(str, words)) + "\n").encode())

    def kill(self, name: str) -> None:
        """Kill a process, and start another in its place."""
        self.write("kill", self._pids[name])
        self._processes.end(self._pids[name], signal.SIGKILL)
        self._pids[name] = self._start(name)

    def start_again(self) -> int:
        """Replace the processes that have ended by themselves, since the database was away when they started."""
        ended = self.ended()
        for name in ended:
            self._processes.end(self._pids[name], signal.SIGKILL)
            self._pids[name] = self._start(name)
        return len(ended)

    def ended(self) -> list[str]:
        """Return the processes that have ended by themselves."""
        return [name for name, pid in self._pids.items() if not self._processes.lives(pid)]

    def close(self) -> None:
        """End them all."""
        for pid in self._pids.values():
            self._processes.end(pid, signal.SIGKILL)
        os.close(self._log)


class Abuse:
    """Starts runs, kills, restarts, and checks.

    Args:
        processes: Starts the processes.
        folder: Where everything is.
        options: Options of the processes.
        plan: What is done.
        server: The PostgreSQL that is restarted, if it is used.
        says: Told how far it is.
    """

    def __init__(
        self, processes: ForkedProcesses, folder: Path, options: dict[str, str], plan: Plan,
        server: PostgresServer | None = None, says: Callable[[str], object] = len,
    ) -> None:  # fmt: skip
        self._folder, self._plan, self._server, self._says = folder, plan, server, says
        self.figures = Figures()
        self._chance = random.Random(plan.seed)
        self._fleet = Fleet(processes, folder, options, plan)
        self._accepted: dict[str, int] = {}
        self._open = asyncio.Semaphore(OPEN)

    async def run(self) -> Figures:
        """Do it all, and return the figures."""
        begin = time.monotonic()
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=0)
        try:
            async with httpx2.AsyncClient(timeout=20, limits=limits) as self._client:
                await self._ready()
                killer = asyncio.create_task(self._kill_always())
                restarter = asyncio.create_task(self._restart())
                calls = asyncio.gather(*(self._call(key) for key in range(self._plan.runs)))
                await self._watch(calls, killer, restarter)
                self.figures.seconds = time.monotonic() - begin
                await self._check_events()
        finally:
            self._fleet.close()
        self._check_steps()
        return self.figures

    async def _ready(self) -> None:
        end = time.monotonic() + SECONDS
        for port in self._fleet.ports.values():
            while True:
                try:
                    await self._client.get(f"http://127.0.0.1:{port}/api/runs")
                    break
                except httpx2.HTTPError:
                    assert time.monotonic() < end, "it does not answer"
                    assert not self._fleet.ended(), f"{self._fleet.ended()}: see the logs in {self._folder}"
                    await asyncio.sleep(0.05)

    async def _watch(
        self, calls: asyncio.Future[Any], killer: asyncio.Task[None], restarter: asyncio.Task[None]
    ) -> None:
        """Wait for all runs to end; the kills stop when all have been started."""
        said = time.monotonic()
        while not calls.done():
            await asyncio.wait({calls}, timeout=0.5)
            for each in (killer, restarter):
                if each.done() and not each.cancelled():
                    each.result()
            if self.figures.accepted == self._plan.runs and restarter.done() and not killer.done():
                killer.cancel()
            if time.monotonic() - said > 10:
                said = time.monotonic()
                self._says(f"accepted {self.figures.accepted}, ended {self.figures.ended}, killed {self.figures.kills}")
        await calls
        await restarter
        killer.cancel()

    # ---- what is done to the processes

    async def _kill_always(self) -> None:
        while self._plan.kills is None or self.figures.kills.total() < self._plan.kills:
            await asyncio.sleep(self._chance.uniform(*self._plan.pause))
            while len(self._fleet.ready()) < len(self._fleet.names):  # a busy machine starts them slowly
                self.figures.started_again += self._fleet.start_again()
                await asyncio.sleep(0.05)
            name = self._chance.choice(self._fleet.names)
            self._fleet.kill(name)
            self.figures.kills[name.rstrip("0123456789")] += 1

    async def _restart(self) -> None:
        for number in range(self._plan.restarts):
            part = (number + self._chance.uniform(0.3, 0.9)) / self._plan.restarts
            while self.figures.accepted < part * self._plan.runs:
                await asyncio.sleep(0.05)
            assert self._server is not None
            self._fleet.write("outage")
            self._server.kill()
            self._server.start()  # in this thread: the server ends with the thread that starts it
            self.figures.restarts += 1

    # ---- what clients do

    async def _call(self, key: int) -> None:
        await asyncio.sleep(key * self._plan.seconds / self._plan.runs)
        async with self._open:
            await self._call_now(key)

    async def _call_now(self, key: int) -> None:
        try:
            run_id = await self._start(key)
            self._accepted[run_id] = key
            self.figures.accepted += 1
            run = await self._until_ended(run_id)
        except (TimeoutError, KeyError) as exc:
            self.figures.wrong.append(f"{key}: {exc!r}")
            return
        self.figures.ended += 1
        if (run["status"], run.get("result")) != ("completed", key + sum(range(STEPS))):
            self.figures.wrong.append(f"run {run_id} of {key} is {run}")

    async def _start(self, key: int) -> str:
        """Start a run, with the same key until some gateway has answered.

        Where a gateway died before the run was started, the answer says so in the end, and the key has to be another.
        """
        headers = {"prefer": "wait=0", "idempotency-key": f"{self._plan.seed} {key}"}
        end, tries = time.monotonic() + SECONDS, 1
        while time.monotonic() < end:
            try:
                answer = await self._client.post(
                    f"{self._gateway()}/api/workflows/order/execute", json={"key": key}, headers=headers
                )
                if answer.status_code in (200, 202):  # 200: an earlier call with this key was accepted, and has ended
                    return str(answer.json()["run_id"])
                code = answer.json()["code"]
                self.figures.refused[code] += 1
                if code == "run_interrupted":
                    tries += 1
                    headers["idempotency-key"] = f"{self._plan.seed} {key} {tries}"
            except httpx2.HTTPError:
                self.figures.retries += 1
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        raise TimeoutError(f"the call {key} was not accepted")

    async def _until_ended(self, run_id: str) -> dict[str, Any]:
        end = time.monotonic() + SECONDS + self._plan.seconds
        run: dict[str, Any] = {}
        while time.monotonic() < end:
            try:
                answer = await self._client.get(f"{self._gateway()}/api/runs/{run_id}", params={"wait": 10})
                run = answer.json() if answer.status_code == 200 else {"status": answer.text}
                if run["status"] in ("completed", "failed", "cancelled"):
                    return run
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        raise TimeoutError(f"the run {run_id} has not ended: {run}")

    def _gateway(self) -> str:
        return self._chance.choice(self._fleet.gateways)

    # ---- what has to hold

    async def _check_events(self) -> None:
        chosen = self._chance.sample([*self._accepted], min(self._plan.sampled, len(self._accepted)))
        for run_id in chosen:
            text = await self._events(run_id)
            numbers = [int(line[3:]) for line in text.splitlines() if line.startswith("id:")]
            types = Counter(line[6:].strip() for line in text.splitlines() if line.startswith("event:"))
            if numbers != [*range(1, len(numbers) + 1)] or types["workflow.completed"] != 1:
                self.figures.wrong.append(f"the events of run {run_id} are {numbers}, {types}")
            elif types["workflow.output"] != STEPS:
                self.figures.wrong.append(f"the events of run {run_id} are {types}")

    async def _events(self, run_id: str) -> str:
        end = time.monotonic() + SECONDS
        while True:
            try:
                answer = await self._client.get(f"{self._gateway()}/api/runs/{run_id}/events")
                if answer.status_code == 200 or time.monotonic() > end:
                    return answer.text
            except httpx2.HTTPError:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(0.2)

    def _check_steps(self) -> None:
        figures, runs, killed, outages = self.figures, defaultdict[int, set[str]](set), set[str](), 0
        begun: dict[tuple[str, str], tuple[str, int]] = {}
        recorded: set[tuple[str, str]] = set()
        starts, repeats = Counter[str](), Counter[str]()
        for kind, pid, *rest in self._lines():
            if kind == "kill":
                killed.add(pid)
            elif kind == "outage":
                outages += 1
            elif kind == "start":
                starts[rest[0]] += 1
            elif kind == "recorded":
                recorded.add((rest[0], rest[2]))
            else:
                run_id, key, step = rest
                runs[int(key)].add(run_id)
                if (run_id, step) in recorded:
                    figures.wrong.append(f"step {step} of {run_id} began again after it was recorded")
                before = begun.get((run_id, step))
                if before is not None:
                    repeats[run_id] += 1
                    figures.repeats += 1
                    if before[0] not in killed:
                        figures.repeats_by_outage += 1
                        if before[1] == outages:
                            figures.wrong.append(f"step {step} of {run_id} began again in {pid}; {before[0]} lived")
                begun[run_id, step] = pid, outages
        figures.take_overs = sum(times - 1 for times in starts.values())
        figures.most_repeats = max(repeats.values(), default=0)
        figures.wrong += [f"the key {key} has started {ids}" for key, ids in runs.items() if len(ids) > 1]
        unknown = {run_id: key for run_id, key in self._accepted.items() if run_id not in runs[key]}
        figures.wrong += [f"run {run_id} of {key} did nothing" for run_id, key in unknown.items()]

    def _lines(self) -> Iterator[list[str]]:
        for line in (self._folder / "steps.txt").read_text().splitlines():
            yield [*line.split(), ""] if line == "outage" else line.split()


def options_of(store: str, folder: Path, url: str = "") -> dict[str, str]:
    """Return options for durable runs in one store, whose processes share their idempotency keys."""
    options = {
        "RUN_ENGINE": "dbos", "RUN_STORE": store, "STORE": "sqlite", "SQLITE_PATH": str(folder / "state.db"),
        "DISABLED_PLUGINS": "mcp,cli", "LOG_LEVEL": "INFO",
    }  # fmt: skip
    if store == "sqlite":
        options |= {"RUNS_SQLITE_PATH": str(folder / "runs.db"), "DBOS_SQLITE_PATH": str(folder / "dbos.db")}
    else:
        schema = f"chaos_{os.getpid()}_{time.time_ns()}"
        options |= {"RUNS_POSTGRES_URL": url, "RUNS_POSTGRES_SCHEMA": f"{schema}_r"}
        options |= {"DBOS_POSTGRES_URL": url, "DBOS_POSTGRES_SCHEMA": f"{schema}_d"}
    return {f"NEXUS_{name}": value for name, value in options.items()}


def main() -> int:
    """Do what the command line says, and print the figures."""
    from postgres_service import PostgresServer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="postgres")
    parser.add_argument("--runs", type=int, help="1000 on PostgreSQL, 200 on SQLite")
    parser.add_argument("--seconds", type=float, help="in which they are started; default: eight a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--restarts", type=int, default=2, help="of PostgreSQL")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    given = parser.parse_args()
    runs = given.runs or (1000 if given.store == "postgres" else 200)
    restarts = given.restarts if given.store == "postgres" else 0
    plan = Plan(runs, given.seconds or runs / 8, given.seed, restarts, gateways=given.gateways, workers=given.workers)
    folder = Path(tempfile.mkdtemp(prefix="nexus-chaos-"))
    print(f"{given.store}, {plan}\nin {folder}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="nexus-postgres-"))
    server = PostgresServer(home) if given.store == "postgres" else None
    figures, is_right, processes = Figures(), False, ForkedProcesses()
    try:
        if server is not None:
            server.start()
        options = options_of(given.store, folder, server.url if server else "")

        async def abuse() -> Figures:
            says = partial(print, flush=True)
            return await Abuse(processes, folder, options, plan, server, says).run()

        figures = asyncio.run(abuse())
        is_right = not figures.wrong
    finally:
        processes.close()
        if server is not None:
            server.kill()
        shutil.rmtree(home, ignore_errors=True)
        if is_right and not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for name, value in vars(figures).items():
        print(f"{name:>18}  {dict(value) if isinstance(value, Counter) else value}")
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main())
