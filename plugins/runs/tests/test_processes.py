"""Several real processes use one store."""

from __future__ import annotations

import asyncio
import signal
import time

from nexus_core.runs.record import RunFilter
from nexus_core.runs.status import RunStatus
from nexus_core.runs.store import LEASE_SECONDS


async def test_a_run_is_followed_in_another_process_soon_and_without_a_gap(start):
    writer, reader = await start("writer"), await start("reader")
    assert await writer.ask("begin", "r1") == ["writer"]
    followers = [reader.start("follow", "r1", 0) for _ in range(3)]
    assert await writer.ask("emit", "r1", 100, 0.005) == 100
    assert await writer.ask("end", "r1")
    for numbers, delays in [await asyncio.wait_for(each, 20) for each in followers]:
        assert numbers == [*range(1, 102)]
        assert sorted(delays[1:])[len(delays) // 2] < 0.5  # 200 ms on a machine that is not busy
    (numbers, _) = await reader.ask("follow", "r1", 60)
    assert numbers == [*range(61, 102)]


async def test_a_run_of_a_killed_process_ends_for_everyone(start, store):
    first, second, third = await start("first"), await start("second"), await start("third")
    assert await first.ask("begin", "r1") == ["first"]
    await first.ask("emit", "r1", 3, 0)
    followers = [each.start("follow", "r1", 0) for each in (second, third)]
    await second.ask("begin", "alive")
    await asyncio.sleep(0)
    killed_at = time.monotonic()
    await first.kill()
    for follower in followers:
        numbers, _ = await asyncio.wait_for(follower, 30)
        assert numbers == [1, 2, 3, 4]
    assert time.monotonic() - killed_at < 20  # 10 s on a machine that is not busy
    state = await store.get("r1")
    assert (state.status, state.problem["code"]) == (RunStatus.FAILED, "run_interrupted")
    assert (await store.get("alive")).status is RunStatus.RUNNING
    restarted = await start("first again")
    assert (await restarted.ask("follow", "r1", 2))[0] == [3, 4]


async def test_a_process_whose_event_loop_stands_still_keeps_its_runs(start):
    first, second = await start("first"), await start("second")
    await first.ask("begin", "r1")
    assert await first.ask("stand_still", 1.6 * LEASE_SECONDS) == "running"
    follower = second.start("follow", "r1", 0)
    assert await first.ask("end", "r1")
    assert (await asyncio.wait_for(follower, 20))[0] == [1]


async def test_a_suspended_process_loses_its_runs_and_changes_nothing_when_it_comes_back(start, store):
    first, second = await start("first"), await start("second")
    await first.ask("begin", "r1")
    follower = second.start("follow", "r1", 0)
    first.process.send_signal(signal.SIGSTOP)
    assert (await asyncio.wait_for(follower, 30))[0] == [1]
    first.process.send_signal(signal.SIGCONT)
    assert not await first.ask("end", "r1")
    state = await store.get("r1")
    assert state.problem["code"] == "run_interrupted"


async def test_a_cancellation_reaches_the_process_that_runs_it(start):
    first, second = await start("first"), await start("second")
    heard = first.start("cancelled")
    await first.ask("begin", "r1")
    assert await second.ask("cancel", "r1")
    assert await asyncio.wait_for(heard, 20) == "r1"


async def test_processes_that_write_at_the_same_time_lose_nothing(start, store):
    processes = [await start(f"writer-{number}") for number in range(3)]
    await asyncio.gather(*(each.ask("later", f"later-{number}", 300) for number, each in enumerate(processes)))
    await asyncio.gather(*(each.ask("begin", f"now-{number}", 100) for number, each in enumerate(processes)))
    begun = await asyncio.gather(*(each.ask("begin", "the same") for each in processes))
    assert len({executor for (executor,) in begun}) == 1  # all know the one that runs it
    for each in processes:
        await each.close()
    runs = await store.find(RunFilter(limit=5000))
    assert len(runs) == 3 * 400 + 1
    assert sum(state.has_ended for state in runs) == 900
