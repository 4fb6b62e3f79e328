"""Tests of run stores: processes that die, pruning, and what survives."""

# ruff: noqa: D102  (the names of tests say what they test)

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nexus_core.runs.contract.base import (
    LARGE,
    LEASE,
    RunStoreTests,
    collect,
    ids,
    sample_end,
    sample_events,
    sample_record,
    until,
)
from nexus_core.runs.record import RunChange, RunStep
from nexus_core.runs.retention import Pruned, RunRetention
from nexus_core.runs.status import RunStatus

if TYPE_CHECKING:
    from nexus_core.runs.store import RunStore


class SharingTests(RunStoreTests):
    """Processes end each other's runs, and old runs are removed."""

    def test_runs_of_a_process_that_has_died_are_ended_once(self) -> None:
        async def test(one: RunStore, two: RunStore) -> None:
            going, ended_before, queued = sample_record(), sample_record(), sample_record(executor=None)
            await one.begin_many([going, ended_before, queued])
            await one.end(sample_end(ended_before))
            await one.append(going.id, 1, sample_events(1))
            follower = asyncio.create_task(collect(two, going.id))
            await one.renew(LEASE)
            await self._hold_lease(two)
            reaped = [state for each in await asyncio.gather(*(two.reap() for _ in range(3))) for state in each]
            assert [state.record.id for state in reaped] == [going.id]
            state = await two.get(going.id)
            assert state is not None
            assert state.problem is not None
            assert (state.status, state.problem["code"]) == (RunStatus.FAILED, "run_interrupted")
            assert [event.to_dict()["number"] for event in await follower] == [1, 2]
            assert not await one.end(sample_end(going))  # it comes back too late
            assert await two.reap() == []

        self.run_shared(test)

    def test_a_durable_run_is_taken_again_and_again(self) -> None:
        async def test(one: RunStore, two: RunStore) -> None:
            record = sample_record(executor=None, durable=True, params=LARGE)
            await one.begin(record)
            await one.append(record.id, 1, sample_events(1))
            first = await one.take(record.id)
            assert first is not None
            assert first.record.durable
            assert (first.record.attempt, first.record.executor, first.record.params) == (1, "one", LARGE)
            assert (first.status, first.last_event) == (RunStatus.RUNNING, 1)
            assert await one.append(record.id, 1, sample_events(2)) == 2
            await one.renew(LEASE)
            await self._hold_lease(two)
            assert await two.reap() == []  # no lease guards it
            second = await two.take(record.id)
            assert second is not None
            assert (second.record.attempt, second.record.executor) == (2, "two")
            assert second.started_at == first.started_at
            (late,) = await one.write([RunChange(record.id, 1, events=sample_events(3))])
            assert not late.is_applied
            assert await two.append(record.id, 2, sample_events(3)) == 3
            heard: list[str] = []
            stop = two.on_cancel(heard.append)
            assert await one.request_cancel(record.id)
            await until(lambda: record.id in heard)
            stop()
            assert await two.end(sample_end(record, attempt=2))
            assert await one.take(record.id) is None
            assert await one.take("no such run") is None

        self.run_shared(test)

    def test_a_thread_keeps_the_lease_of_a_loop_that_stands_still(self) -> None:
        async def test(one: RunStore, two: RunStore) -> None:
            record = sample_record()
            await one.begin(record)
            is_over = threading.Event()

            def renew() -> None:
                while not is_over.wait(LEASE / 5):
                    one.renew_in_thread(LEASE)
                one.end_thread()

            thread = threading.Thread(target=renew)
            await one.renew(LEASE)
            thread.start()
            await self._hold_lease(two)
            assert await two.reap() == []
            is_over.set()
            await asyncio.to_thread(thread.join)
            await self._hold_lease(two)
            assert [state.record.id for state in await two.reap()] == [record.id]

        self.run_shared(test)

    async def _hold_lease(self, store: RunStore) -> None:
        """Keep a process alive until it may end others' runs, and one has that ended at the beginning."""
        end = time.monotonic() + 2.5 * LEASE
        while time.monotonic() < end:
            await store.renew(LEASE)
            await asyncio.sleep(LEASE / 5)

    def test_a_process_that_has_just_come_back_ends_no_runs(self) -> None:
        async def test(one: RunStore, two: RunStore) -> None:
            record = sample_record()
            await one.begin(record)
            await one.renew(0.01)
            await two.renew(0.01)
            await asyncio.sleep(0.1)
            assert await two.expired() == []  # its own lease has lapsed
            await two.renew(10.0)
            assert await two.expired() == []  # and is not old enough yet

        self.run_shared(test)

    def test_a_process_that_is_alive_keeps_its_runs(self) -> None:
        async def test(one: RunStore, two: RunStore) -> None:
            await one.begin(sample_record())
            await one.renew(60.0)
            await self._hold_lease(two)
            assert await two.expired() == []

        self.run_shared(test)

    def test_pruning(self) -> None:
        async def test(store: RunStore) -> None:
            now = time.time()
            for number in range(12):
                record = sample_record(f"run-{number:02}", workflow="add" if number % 2 else "mul", params=b"x" * 10)
                end = sample_end(record, finished_at=now - 100 + number, result=b"y" * 10)
                await store.write([RunChange.begin(record), end, RunChange(record.id)])
            await store.begin(sample_record("running", params=b"x" * 20))
            assert await store.prune(RunRetention()) == (0, 0, True)
            old = RunRetention(max_age=97.5)
            assert await store.prune(old, dry_run=True) == (3, 60, True)
            assert await store.prune(old, limit=2) == Pruned(2, 40, False)
            assert await store.prune(old, limit=2) == Pruned(1, 20, True)
            assert await ids(store) == [f"run-{number:02}" for number in range(3, 12)] + ["running"]
            assert await store.prune(RunRetention(max_runs=9)) == (1, 20, True)
            assert await store.prune(RunRetention(max_bytes=140)) == (2, 40, True)
            assert await ids(store) == [f"run-{number:02}" for number in range(6, 12)] + ["running"]
            of_one = RunRetention(workflows={"mul": RunRetention(max_runs=1), "none": RunRetention(max_runs=0)})
            assert await store.prune(of_one, dry_run=True) == (2, 40, True)
            assert await store.prune(of_one) == (2, 40, True)
            assert await ids(store) == ["run-07", "run-09", "run-10", "run-11", "running"]
            assert await store.prune(RunRetention(max_runs=0)) == (4, 80, True)
            assert await ids(store) == ["running"]

        self.run(test)

    def test_all_that_belongs_to_a_run_is_pruned_with_it(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record("r1", params=LARGE)
            step = RunStep(1, "fetch", 1, 10.0)
            change = replace(RunChange.begin(record), events=sample_events(1, 2), steps=(step,))
            await store.write([change, sample_end(record, finished_at=1.0, result=LARGE)])
            pruned = await store.prune(RunRetention(max_age=10.0))
            assert pruned.runs == 1
            assert pruned.bytes >= 2 * len(LARGE)
            assert [await store.get("r1"), await store.events("r1"), await store.steps("r1")] == [None, [], []]
            await store.begin(record)  # the id is free again
            state = await store.get("r1")
            assert state is not None
            assert (state.record, state.last_event, await store.steps("r1")) == (record, 0, [])

        self.run(test)

    def test_its_check_returns_details(self) -> None:
        async def test(store: RunStore) -> None:
            assert isinstance(await store.check(), dict)

        self.run(test)

    def test_what_a_shared_store_holds_survives_its_process(self) -> None:
        async def test() -> None:
            place = self.place()
            first, second = self.store(place), self.store(place)
            await first.open("one")
            record = sample_record()
            first.write_later(replace(RunChange.begin(record), events=sample_events(1)))
            await first.close()  # it writes what waits
            await second.open("two")
            state = await second.get(record.id)
            assert state is not None
            assert state.record == record
            await second.close()

        if not self.store(self.place()).is_shared:
            pytest.skip("The store is not shared by processes.")
        asyncio.run(test())
