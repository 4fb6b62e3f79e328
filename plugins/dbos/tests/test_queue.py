"""The queue: order, limits, where runs stand, and what no process works on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import sqlalchemy
from nexus_dbos.claim import Claim
from nexus_dbos.engine import APPLICATION, QUEUE, VERSION, WORKFLOW
from nexus_dbos.queue_columns import Tables
from nexus_dbos.queued import queue_run
from nexus_dbos.standing import Standing
from nexus_dbos.workers import Workers

from nexus_core.runs.work import Offer, Rate, WaitReason, Work, Worker, WorkLimits

ROW = {
    "name": WORKFLOW, "queue_name": QUEUE, "application_version": VERSION, "application_name": APPLICATION,
    "serialization": "portable_json",
}  # fmt: skip


class Queue:
    """The queue as any number of processes use it, none of which works."""

    def __init__(self, place, engine):
        self.tables, self.engine = Tables(None if place.url is None else place.schema), engine
        self.workers = Workers(self.tables, engine)
        self.standing = Standing(self.tables, engine, self.workers, QUEUE)
        self._numbers = count()

    def start(self, *runs, workflow="work", **members):
        with self.engine.begin() as connection:
            for run in runs:
                queue_run(connection, self.tables, Work(run, b"{}", workflow, **members), ROW, "{}")

    def start_many(self, prefix, number, owner):
        """Start runs of an owner at once, as if one after the other."""
        columns = "status, name, queue_name, priority, recovery_attempts, created_at, updated_at, nexus_workflow, "
        columns += "nexus_owner, nexus_priority"
        self.start(f"{prefix}0", owner=owner)
        with self.engine.begin() as connection:
            copy = (
                f"INSERT INTO {self.tables.runs} (workflow_uuid, {columns}, nexus_turn) "
                "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) "
                f"SELECT '{prefix}' || n, {columns}, nexus_turn + n FROM {self.tables.runs}, numbers "
                f"WHERE workflow_uuid = '{prefix}0'"
            )
            connection.execute(sqlalchemy.text(copy), {"last": number - 1})

    def claim(self, executor="one"):
        """Return a function that takes runs for a process."""
        mark = {"executor_id": executor, "application_version": VERSION, "application_name": APPLICATION}
        chooser = Claim(self.tables, self.engine, QUEUE, mark)

        def take(places=1, *, workflow="work", version="", offers=None, **limits):
            offered = offers or {workflow: Offer(version, WorkLimits(**limits))}
            return chooser.take(offered, places, f"token {next(self._numbers)}")

        return take

    def change(self, run, **values):
        names = ", ".join(f"{name} = :{name}" for name in values)
        with self.engine.begin() as connection:
            statement = f"UPDATE {self.tables.runs} SET {names} WHERE workflow_uuid = :run"
            connection.execute(sqlalchemy.text(statement), {"run": run, **values})

    def end(self, *runs):
        for run in runs:
            self.change(run, status="SUCCESS")

    def reason(self, run):
        return self.standing.position(run).reason


@pytest.fixture
async def queue(place, engine):
    await engine.open("gateway", None)
    made = place.engine(syncs=False)
    yield Queue(place, made)
    made.dispose()


def runs(prefix, number):
    return [f"{prefix}{each}" for each in range(number)]


def test_an_owner_with_10000_runs_holds_up_another_by_a_few(queue):
    queue.start_many("a", 9_999, "ann")
    queue.start("a-last", owner="ann")
    assert queue.standing.position("a-last").position == 9_999
    take = queue.claim()
    assert take(8) == runs("a", 8)
    queue.start("b0", "b1", owner="bob")
    assert queue.standing.position("b0").position <= 1
    assert "b0" in take(2)
    assert "b1" in take(4)
    begin = time.perf_counter()
    assert len(take(10)) == 10
    queue.standing.count()
    assert queue.standing.numbers.queued == 10_002 - 24
    assert time.perf_counter() - begin < 20  # it is milliseconds; a busy machine shall not break this


def test_owners_take_turns_and_priorities_go_first(queue):
    for owner in "ab":
        queue.start(*runs(owner, 3), owner=owner)
    queue.start("late", owner="c", priority=5)
    queue.start("urgent", owner="a", priority=1)
    assert queue.claim()(9) == ["urgent", "a0", "b0", "a1", "b1", "a2", "b2", "late"]


def test_without_owners_runs_begin_in_their_order(queue):
    queue.start(*runs("r", 20))
    take = queue.claim()
    assert [run for _ in range(5) for run in take(4)] == runs("r", 20)


def test_a_workflow_does_not_hold_up_another(queue):
    queue.start(*runs("a", 50), owner="ann")
    queue.start("b0", owner="bob", workflow="other")
    queue.start("a-other", owner="ann", workflow="other")
    take = queue.claim()
    offers = {"work": Offer(), "other": Offer()}
    taken = take(4, offers=offers)
    assert {"b0", "a-other"} <= set(taken)
    assert take(1, workflow="unknown") == []


def test_runs_that_were_begun_keep_their_turn(queue):
    queue.start(*runs("a", 5), owner="ann")
    take = queue.claim()
    assert take(2) == ["a0", "a1"]
    queue.change("a0", status="ENQUEUED")
    queue.start("b0", owner="bob")
    assert take(2) == ["a0", "a2"] or take(1) == ["b0"]


def test_concurrency(queue):
    queue.start(*runs("a", 9))
    take = queue.claim()
    assert take(5, concurrency=3) == runs("a", 3)
    assert take(5, concurrency=3) == []
    queue.end("a0")
    assert take(5, concurrency=3) == ["a3"]
    assert queue.claim("two")(9, concurrency=3) == []


def test_concurrency_of_keys(queue):
    queue.start(*runs("a", 300), key='"ann"')
    queue.start("b0", "b1", key='"bob"')
    queue.start("none")
    take = queue.claim()
    assert take(5, key_concurrency=1) == ["a0", "b0", "none"]
    assert take(5, key_concurrency=1) == []
    queue.end("b0")
    assert take(5, key_concurrency=1) == ["b1"]
    assert take(9, key_concurrency=3, concurrency=4) == ["a1", "a2"][: 4 - 3]


def test_rates(queue):
    queue.start(*runs("a", 9), key="1")
    queue.start("b0", key="2")
    take, hour = queue.claim(), 3600.0
    assert take(9, rate=Rate(3, hour)) == runs("a", 3)
    queue.end(*runs("a", 3))
    assert take(9, rate=Rate(3, hour)) == []
    for number in range(2):
        queue.change(f"a{number}", nexus_began_at=(time.time() - hour - 5) * 1000)
    assert take(9, rate=Rate(3, hour)) == ["a3", "a4"]
    assert take(9, key_rate=Rate(3, hour)) == ["b0"]
    assert take(9, key_rate=Rate(5, hour)) == ["a5", "a6"]


def test_limits_hold_while_processes_race(queue):
    queue.start(*runs("a", 120), owner="a", key="1")
    queue.start(*runs("b", 120), owner="b", key="2")
    at_work, most, keys = set(), 0, Counter()

    def work(executor):
        nonlocal most
        take, taken = queue.claim(executor), []
        for _ in range(30):
            more = take(4, concurrency=7, key_concurrency=4)
            at_work.update(more)  # after they are taken, and before they end: never more than there are
            most = max(most, len(at_work))
            keys.update(run[0] for run in more)
            taken += more
            for run in taken[-3:]:
                at_work.discard(run)
                queue.end(run)
            del taken[-3:]
        return taken

    with ThreadPoolExecutor(3) as pool:
        left = list(pool.map(work, ("one", "two", "three")))
    assert 4 < most <= 7
    assert sum(map(len, left)) <= 7
    assert min(keys.values()) > 20


def test_a_rate_holds_while_processes_race(queue):
    queue.start(*runs("a", 60))
    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(lambda name: [queue.claim(name)(5, rate=Rate(17, 3600)) for _ in range(5)], "abc"))
    assert len({run for each in taken for more in each for run in more}) == 17


def test_no_run_is_taken_twice(queue):
    queue.start(*runs("a", 200))

    def work(executor):
        take = queue.claim(executor)
        return [run for _ in range(25) for run in take(4)]

    with ThreadPoolExecutor(3) as pool:
        taken = Counter(run for each in pool.map(work, "abc") for run in each)
    assert set(taken.values()) == {1}
    assert len(taken) == 200


def test_runs_of_a_version_wait_for_it(queue):
    queue.start("a0", "a1")
    take = queue.claim()
    assert take(1, version="1") == ["a0"]
    queue.change("a0", status="ENQUEUED", nexus_version="1")
    assert take(2, version="2") == ["a1"]
    queue.workers.note("one", {"work": Offer("2")})
    assert queue.reason("a0") is WaitReason.VERSION
    assert queue.standing.unserved() == {"work": 1}
    queue.workers.note("two", {"work": Offer("1")})
    assert queue.reason("a0") is WaitReason.TURN
    assert queue.standing.unserved() == {}
    assert take(2, version="1") == ["a0"]


def test_position_and_reason(queue):
    queue.start(*runs("a", 6), key="1")
    assert queue.reason("a0") is WaitReason.NO_WORKER
    assert queue.standing.unserved() == {"work": 6}
    take, hour = queue.claim(), 3600.0
    cases = [
        ({"concurrency": 1}, WaitReason.CONCURRENCY),
        ({"rate": Rate(1, hour)}, WaitReason.RATE),
        ({"key_concurrency": 2}, WaitReason.KEY_CONCURRENCY),
        ({"key_rate": Rate(2, hour)}, WaitReason.KEY_RATE),
        ({"concurrency": 9, "rate": Rate(9, hour), "key_rate": Rate(9, hour)}, WaitReason.TURN),
    ]
    assert take(1, rate=Rate(1, hour)) == ["a0"]
    assert take(1, key_concurrency=2, rate=Rate(2, hour)) == ["a1"]
    for limits, reason in cases:
        queue.workers.note("one", {"work": Offer("", WorkLimits(**limits))})
        assert queue.standing.position("a3") == (1, reason)
    assert queue.standing.position("a0") is None  # at work
    assert queue.standing.position("unknown") is None
    queue.workers.remove("one")
    assert queue.reason("a3") is WaitReason.NO_WORKER


def test_a_process_that_is_silent_counts_as_dead(queue):
    queue.start("a0", "b0")
    queue.workers.note("one", {"work": Offer()})
    assert queue.standing.count() == (2, pytest.approx(0, abs=60), 1, {})
    with queue.engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"UPDATE {queue.tables.workers} SET seen = seen - 30000"))
    assert queue.standing.count()[2:] == (0, {"work": 2})


def test_rows_of_others_are_worked_on(queue):
    queue.start("a0", "a1")
    queue.change("a0", nexus_workflow=None, nexus_owner=None, nexus_turn=None, nexus_priority=None)
    take = queue.claim()
    assert take(2) == ["a1"]
    mark = {"executor_id": "one", "application_version": VERSION, "application_name": APPLICATION}
    assert Claim(queue.tables, queue.engine, QUEUE, mark).adopt() == 1
    assert take(2, workflow="unknown") == ["a0"]


def test_many_workflows_take_turns(queue):
    names = [f"w{number}" for number in range(70)]
    for name in names:
        queue.start(f"{name}-0", f"{name}-1", workflow=name, owner=name)
    take, offers = queue.claim(), {name: Offer() for name in names}
    first = {run.split("-")[0] for _ in range(11) for run in take(10, offers=offers)}
    assert first == set(names)


def test_owners_and_keys_of_any_length(queue):
    long = "\0 long" * 10_000
    queue.start("a", "b", owner=long, key=long + "1")
    queue.start("c", owner=long, key=long + "2")
    assert queue.claim()(3, key_concurrency=1, key_rate=Rate(5, 60)) == ["a", "c"]


async def test_tables_are_made_once_by_processes_that_come_at_once(place):
    from nexus_dbos.engine import DbosRunEngine

    engines = [DbosRunEngine(place) for _ in range(3)]
    await asyncio.gather(*(each.open(f"gateway {number}", None) for number, each in enumerate(engines)))
    await asyncio.gather(*(each.start(Work("one", b"{}", "work")) for each in engines))
    assert (await engines[0].check())["queued"] == 1
    await asyncio.gather(*(each.close() for each in engines))


async def test_the_engine_says_how_its_queue_is(engine):
    began, goes_on = [], asyncio.Event()

    async def perform(run_id, task, journal):
        began.append(run_id)
        await goes_on.wait()

    limits = WorkLimits(concurrency=1)
    await engine.open("executor", Worker(perform, lambda: {"work": Offer("1", limits)}, 8))
    for run in ("a", "b", "c"):
        await engine.start(Work(run, b"{}", "work", "ann"))
    await engine.start(Work("elsewhere", b"{}", "other", "ann"))
    async with asyncio.timeout(20):
        while not began:
            await asyncio.sleep(0.01)
    assert await engine.position("c") == (1, WaitReason.CONCURRENCY)
    assert await engine.position("elsewhere") == (0, WaitReason.NO_WORKER)
    assert await engine.position("a") is None
    assert await engine.unserved() == {"other": 1}
    assert (await engine.check())["unserved"] == {"other": 1}
    statistics = engine.statistics()
    assert {name: statistics[name] for name in ("queued", "working", "workers", "unserved")} == {
        "queued": 3, "working": 1, "workers": 1, "unserved": 1,
    }  # fmt: skip
    goes_on.set()
    async with asyncio.timeout(20):
        while len(began) < 3:
            await asyncio.sleep(0.01)
    assert began == ["a", "b", "c"]


async def test_a_process_that_dies_frees_its_places(launch, log):
    gateway, first = await asyncio.gather(launch("gateway", works=False), launch("first"))
    await gateway.ask("start", "run", 2, {"steps": 1, "seconds": 0.3}, "single")
    await log.until("step", 1)
    await first.kill()
    await launch("second")
    await log.until("ended", 2)
    assert [who for _, who, *_ in log.entries("began")] == ["first", "second", "second"]
