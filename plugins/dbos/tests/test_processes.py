"""Several processes, and what remains when some of them die."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter

import pytest


def ended_once(log, runs):
    ended = Counter(run_id for _, _, _, run_id in log.entries("ended"))
    return len(ended) == runs and set(ended.values()) == {1}


def repeated(log):
    """Return how many steps began again although their outcome was recorded."""
    entries, passed, again = log.entries(), set(), 0
    for _, _, kind, *rest in entries:
        if kind == "passed":
            passed.add((rest[0], rest[1]))
        elif kind == "step" and tuple(rest) in passed:
            again += 1
    return again


async def test_a_killed_process_is_replaced(launch, log):
    first, second, gateway = await asyncio.gather(launch("first"), launch("second"), launch("gateway", works=False))
    await gateway.ask("start", "run", 16, {"steps": 6, "seconds": 0.2})
    await log.until("passed", 8)
    await asyncio.sleep(random.uniform(0, 0.5))
    at_work = {run for _, who, _, run, _ in log.entries("began") if who == "first"}
    at_work -= {run for _, _, _, run in log.entries("ended")}
    await first.kill()
    killed = len(log.entries())
    await log.until("ended", 16)
    assert ended_once(log, 16)
    assert repeated(log) == 0
    died = log.entries()[killed - 1][0]
    again = [entry for entry in log.entries("began") if entry[4] == 2]
    assert again
    assert {entry[3] for entry in again} <= at_work
    assert all(at - died < 5 for at, *_ in again), [at - died for at, *_ in again]
    assert (await second.ask("statistics"))["taken_over"] == len(again)


async def test_all_die_and_another_comes(launch, log):
    gateway = await launch("gateway", works=False)
    await gateway.ask("start", "run", 4, {"steps": 3, "seconds": 0.2})
    first = await launch("first")
    await log.until("passed", 4)
    await first.kill()
    await gateway.kill()
    await launch("second")
    await log.until("ended", 4)
    assert ended_once(log, 4)
    assert repeated(log) == 0


async def test_a_run_that_kills_counts_its_attempts(launch, log):
    gateway = await launch("gateway", works=False)
    await gateway.ask("start", "poison", 1, {"steps": 1, "seconds": 60})
    for attempt in (1, 2, 3):
        process = await launch(f"process {attempt}")
        began = await log.until("began", attempt)
        assert began[-1][4] == attempt
        await process.kill()


async def test_a_process_that_stops_gives_its_runs_back(launch, log):
    gateway, first = await asyncio.gather(launch("gateway", works=False), launch("first"))
    await gateway.ask("start", "run", 3, {"steps": 2, "seconds": 0.8})
    await log.until("passed", 3)
    await first.close()
    assert len(log.entries("cancelled")) == 3
    assert (await gateway.ask("check"))["queued"] == 3  # nothing final is recorded
    await launch("second")
    await log.until("ended", 3)
    assert {attempt for *_, attempt in log.entries("began")} == {1}  # asked to stop is not died
    assert repeated(log) == 0


async def test_a_cancelled_run_does_not_begin_again(launch, log):
    gateway, first = await asyncio.gather(launch("gateway", works=False), launch("first"))
    await gateway.ask("start", "long", 1, {"steps": 9, "seconds": 0.3})
    await log.until("step", 1)
    await gateway.ask("cancel", "long-0")
    await log.until("cancelled", 1)
    await first.close()
    assert (await gateway.ask("check"))["queued"] == 0
    second = await launch("second")
    await gateway.ask("start", "next", 1, {"steps": 1, "seconds": 0})
    await log.until("ended", 1)
    assert [run for _, _, _, run in log.entries("ended")] == ["next-0"]
    await second.close()


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
async def test_the_database_starts_again(launch, log, postgres_server):
    gateway, *_ = await asyncio.gather(launch("gateway", works=False), launch("first"), launch("second"))
    await gateway.ask("start", "run", 8, {"steps": 4, "seconds": 0.3})
    await log.until("passed", 6)
    postgres_server.kill()
    assert await gateway.ask("start", "late", 1, {"steps": 1, "seconds": 0}) == {"error": "BackendUnavailable"}
    postgres_server.start()  # in this thread: the server ends with the thread that starts it
    await log.until("ended", 8)
    assert ended_once(log, 8)
    assert repeated(log) == 0
    assert await gateway.ask("start", "late", 1, {"steps": 1, "seconds": 0}) == 1
    await log.until("ended", 9)


def test_only_an_open_engine_imports_dbos():
    code = (
        "import sys, nexus_dbos.engine, nexus_dbos.plugin; sys.exit({'dbos', 'sqlalchemy'} & set(sys.modules) != set())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
