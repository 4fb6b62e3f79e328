"""How far durable runs scale with one PostgreSQL: costs measured here, and a simulation of more processes than here.

    python tests/benchmarks/simulation.py [--runs 600] [--costs FILE]

It measures what a run costs the database, a gateway and a worker, predicts two gateways and two workers on this
machine, measures those too, and then simulates ten gateways and twenty workers, each with a core of its own, against a
database with some cores. ``--costs`` reads costs that were measured before, and leaves the comparison out.

What is simulated: each process and the database is a server with a queue: first come, first served, one request at a
time for each core. A run passes its gateway, the database, waits for a worker's look at the queue, the worker, the
database again and its gateway; its costs are spread over these visits.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

CORES_OF_DATABASE = 2
STEPS_OF_RUN = 5
POLL_SECONDS = 0.05
IDLE_SECONDS = 5.0


@dataclass
class Costs:
    """Processor time in milliseconds, and connections.

    Attributes:
        accept_db: The database, to accept a run.
        run_db: The database, for a run without steps, from its acceptance to its answer.
        step_db: The database, for a step.
        gateway: A gateway, for a run.
        worker: A worker, for a run without steps.
        step_worker: A worker, for a step.
        idle_db: The database in a second, for a worker that waits for runs.
        connections_of_gateway, connections_of_worker: Open connections under load.
    """

    accept_db: float
    run_db: float
    step_db: float
    gateway: float
    worker: float
    step_worker: float
    idle_db: float
    connections_of_gateway: float
    connections_of_worker: float


class Servers:
    """Some cores with one queue."""

    def __init__(self, world: World, cores: int) -> None:
        self._world, self._free, self._queue = world, cores, deque[tuple[float, Callable[[], None]]]()
        self.busy = 0.0

    def ask(self, milliseconds: float, then: Callable[[], None]) -> None:
        """Use a core for so long, in turn, and go on."""
        if self._free:
            self._free -= 1
            self._begin(milliseconds, then)
        else:
            self._queue.append((milliseconds, then))

    def _begin(self, milliseconds: float, then: Callable[[], None]) -> None:
        taken = self._world.around(milliseconds)
        self.busy += taken

        def end() -> None:
            if self._queue:
                self._begin(*self._queue.popleft())
            else:
                self._free += 1
            then()

        self._world.later(taken, end)


class World:
    """Events in their order."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def around(self, milliseconds: float) -> float:
        """Return a time that varies as those of a database do: exponentially above half of the mean."""
        return milliseconds / 2 + self._chance.expovariate(2 / milliseconds) if milliseconds > 0 else 0.0

    def gap(self, milliseconds: float) -> float:
        """Return a time between two arrivals that do not depend on each other."""
        return self._chance.expovariate(1 / milliseconds)

    def later(self, milliseconds: float, call: Callable[[], None]) -> None:
        """Call something then."""
        self._count += 1
        heapq.heappush(self._events, (self.now + milliseconds, self._count, call))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, call = heapq.heappop(self._events)
            call()


@dataclass
class Outcome:
    """What a simulation has shown: runs a second, delays from call to work in ms, and use of cores from 0 to 1."""

    rate: float
    delay: float
    late: float
    database: float
    gateways: float
    workers: float


@dataclass
class Machines:
    """What is simulated.

    Attributes:
        gateways, workers: How many processes.
        steps: Of each run.
        rate: Runs that arrive in a second; None: so many calls are always open as ``open`` says.
        shared: Cores that all processes and the database share; None: each process has one of its own.
        database: Cores of the database, where they are not shared.
        concurrency: Runs at once in a worker.
    """

    gateways: int
    workers: int
    steps: int = 0
    rate: float | None = None
    open: int = 50
    shared: int | None = None
    database: int = CORES_OF_DATABASE
    concurrency: int = 10


def simulate(costs: Costs, machines: Machines, seconds: float = 30.0, seed: int = 1) -> Outcome:
    """Return what happens, without the first fifth of the time."""
    world = World(seed)
    shared = None if machines.shared is None else Servers(world, machines.shared)
    database = shared or Servers(world, machines.database)
    gateways = [shared or Servers(world, 1) for _ in range(machines.gateways)]
    workers = [shared or Servers(world, 1) for _ in range(machines.workers)]
    room = [machines.concurrency] * machines.workers
    waiting: deque[tuple[float, Callable[[int], None]]] = deque()
    delays: list[float] = []
    ended: list[float] = []
    end, begin = 1000 * seconds, 200 * seconds
    rest_db = max(costs.run_db - costs.accept_db, 0.0)

    def call(number: int) -> None:
        gateway, at = gateways[number % len(gateways)], world.now

        def queued() -> None:
            waiting.append((at, work))

        def work(worker: int) -> None:
            if world.now > begin:
                delays.append(world.now - at)
            left = machines.steps

            def next_step() -> None:
                nonlocal left
                if left:
                    left -= 1
                    workers[worker].ask(costs.step_worker, lambda: database.ask(costs.step_db, next_step))
                else:
                    workers[worker].ask(costs.worker / 2, lambda: database.ask(rest_db / 2, leave))

            def leave() -> None:
                room[worker] += 1
                look(worker)
                gateway.ask(costs.gateway / 2, answer)

            workers[worker].ask(costs.worker / 2, next_step)

        def answer() -> None:
            if world.now > begin:
                ended.append(world.now)
            if machines.rate is None:
                call(number)

        gateway.ask(costs.gateway / 2, lambda: database.ask(costs.accept_db, queued))

    def look(worker: int) -> None:
        """Take the runs there is room for: by a poll, or as soon as one has ended."""
        taken = [waiting.popleft() for _ in range(min(room[worker], len(waiting)))]
        room[worker] -= len(taken)
        if taken:
            database.ask(rest_db / 2 * len(taken), lambda: [work(worker) for _, work in taken] and None)

    def poll(worker: int) -> None:
        look(worker)
        database.ask(costs.idle_db * POLL_SECONDS, lambda: None)
        world.later(1000 * POLL_SECONDS, lambda: poll(worker))

    def arrive(number: int) -> None:
        call(number)
        world.later(world.gap(1000 / (machines.rate or 1)), lambda: arrive(number + 1))

    for worker in range(machines.workers):
        world.later(1000 * POLL_SECONDS * worker / machines.workers, lambda worker=worker: poll(worker))
    if machines.rate is None:
        for number in range(machines.open):
            call(number)
    else:
        arrive(0)
    world.run(end)
    delays.sort()
    use = [sum(each.busy for each in group) / end for group in ([database], gateways, workers)]
    return Outcome(
        1000 * len(ended) / (end - begin), delays[len(delays) // 2] if delays else 0.0,
        delays[len(delays) * 99 // 100] if delays else 0.0, use[0] / machines.database, use[1] / machines.gateways,
        use[2] / machines.workers,
    )  # fmt: skip


# ---- what it costs here


async def measured(runs: int) -> tuple[Costs, Outcome, Outcome]:
    """Return costs, what two gateways and two workers are predicted to do here, and what they do."""
    import durable_runs
    from durable_workflows import STEPS, platform

    with durable_runs.places(("postgres",)) as places:
        options = places.options("postgres")
        async with platform(run_work=False, max_concurrent_workflows=runs + 1, **options) as nexus:
            before = places.cpu_seconds()
            started = [nexus.submit(_call(number)) for number in range(runs)]
            await asyncio.gather(*(each.started_or_rejected() for each in started))
            accept_db = 1000 * (places.cpu_seconds() - before) / runs
        async with durable_runs.fleet(places.options("postgres"), 1, 1) as (gateways, workers):
            await durable_runs.throughput(gateways, runs // 4)
            figures = [await _used(places, gateways, workers, runs, name) for name in ("durable", "stepped")]
            before = places.cpu_seconds()
            await asyncio.sleep(IDLE_SECONDS)
            idle_db = 1000 * (places.cpu_seconds() - before) / IDLE_SECONDS
        database, gateway, worker = (figures[0][part] for part in range(3))
        per_step = [max(figures[1][part] - figures[0][part], 0.0) / STEPS for part in range(3)]
        async with durable_runs.fleet(places.options("postgres"), 2, 2) as (gateways, workers):
            await durable_runs.throughput(gateways, runs // 4)
            before = places.cpu_seconds() + time.process_time() + sum(each.cpu_seconds() for each in workers)
            rate = await durable_runs.throughput(gateways, runs)
            after = places.cpu_seconds() + time.process_time() + sum(each.cpu_seconds() for each in workers)
            cores = min((after - before) * rate / runs, _processors())
            connections = _connections(places.server.url)
            delays = await durable_runs.delays(gateways[0], 20)
    each = connections / 4
    costs = Costs(accept_db, database, per_step[0], gateway, worker, per_step[2], idle_db, each, each)
    real = Outcome(rate, median(delays), delays[-1], 0.0, 0.0, 0.0)
    print(f"two gateways and two workers had {cores:.2f} of {_processors()} cores; others had the rest")
    here = _slower(costs, _processors() / cores)
    full = simulate(here, Machines(2, 2, shared=_processors()))
    quiet = simulate(here, Machines(2, 2, shared=_processors(), rate=6.0))
    return costs, Outcome(full.rate, quiet.delay, quiet.late, 0.0, 0.0, 0.0), real


def _slower(costs: Costs, factor: float) -> Costs:
    """Return what is paid where each core is shared with others."""
    values = asdict(costs)
    return Costs(**{name: each if name.startswith("connections") else each * factor for name, each in values.items()})


def _call(number: int) -> object:
    from nexus_core import Invocation

    return Invocation("durable", {"a": number, "b": 1})


async def _used(places, gateways, workers, runs: int, workflow: str) -> list[float]:  # type: ignore[no-untyped-def]
    """Return milliseconds of processor time of the database, the gateway and the worker for a run."""
    import durable_runs

    before = [places.cpu_seconds(), time.process_time(), workers[0].cpu_seconds()]
    await durable_runs.throughput(gateways, runs, workflow)
    after = [places.cpu_seconds(), time.process_time(), workers[0].cpu_seconds()]
    return [1000 * (now - was) / runs for now, was in zip(after, before, strict=True)]


def _connections(url: str) -> int:
    import psycopg

    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0]) - 1


def _processors() -> int:
    import os

    return os.cpu_count() or 1


def report(costs: Costs) -> Iterator[str]:
    """Return what more processes do, and what breaks first."""
    gateways, workers = 10, 20
    for steps in (0, STEPS_OF_RUN):
        full = simulate(costs, Machines(gateways, workers, steps, open=2000))
        yield f"{gateways} gateways, {workers} workers, {steps} steps a run, as much as goes: {full.rate:.0f} runs/s"
        yield f"  in use: database {full.database:.0%}, gateways {full.gateways:.0%}, workers {full.workers:.0%}"
        for part in (0.25, 0.5, 0.8, 0.95):
            some = simulate(costs, Machines(gateways, workers, steps, rate=part * full.rate), 20)
            yield (
                f"  at {part * full.rate:.0f} runs/s: median delay {some.delay:.0f} ms, 99 % {some.late:.0f} ms, "
                f"database {some.database:.0%}, gateways {some.gateways:.0%}, workers {some.workers:.0%}"
            )
    for cores in (2, 4, 8, 16, 32):
        full = simulate(costs, Machines(gateways, workers, STEPS_OF_RUN, open=2000, database=cores), 10)
        yield (
            f"  database with {cores} cores, {STEPS_OF_RUN} steps: {full.rate:.0f} runs/s; in use: database "
            f"{full.database:.0%}, gateways {full.gateways:.0%}, workers {full.workers:.0%}"
        )
    connections = gateways * costs.connections_of_gateway + workers * costs.connections_of_worker
    yield f"connections: {connections:.0f} of {gateways + workers} processes; PostgreSQL allows 100 by default"
    yield f"idle workers: {workers * costs.idle_db / 10:.1f} % of a core of the database"


def main() -> None:
    """Measure, compare and simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--costs", type=Path, help="a file with costs, as they are printed")
    given = parser.parse_args()
    if given.costs is None:
        costs, predicted, real = asyncio.run(measured(given.runs))
        print(json.dumps(asdict(costs), indent=2))
        print("two gateways and two workers, here:")
        for name, each in (("predicted", predicted), ("measured", real)):
            print(
                f"  {name}: {each.rate:.0f} runs/s; quiet: median delay {each.delay:.0f} ms, worst {each.late:.0f} ms"
            )
    else:
        costs = Costs(**json.loads(given.costs.read_text()))
    for line in report(costs):
        print(line)


if __name__ == "__main__":
    main()
