"""`RunKeeper`: leases, dead processes and pruning, whatever becomes of the store."""

from __future__ import annotations

import asyncio
import threading
import time

from nexus_core import BackendUnavailable
from nexus_core.runs import lease_guard
from nexus_core.runs.contract.base import sample_record
from nexus_core.runs.keeper import RunKeeper
from nexus_core.runs.memory import MemoryRunStore
from nexus_core.runs.record import RunState
from nexus_core.runs.retention import Pruned, RunRetention
from nexus_core.testing import eventually


class Store(MemoryRunStore):
    def __init__(self):
        super().__init__()
        self.renewed, self.passes, self.dead = [], [], []
        self.is_away = False

    async def renew(self, lease=6.0):
        self.renewed.append(lease)
        if self.is_away:
            raise BackendUnavailable("away")

    async def expired(self, limit=100):
        dead, self.dead = self.dead[:limit], self.dead[limit:]
        return dead

    async def prune(self, keep, *, limit=1000, dry_run=False):
        self.passes.append(limit)
        return Pruned(limit, 0, len(self.passes) >= 3)


async def test_leases_are_renewed_all_the_time_also_after_an_outage():
    store = Store()
    keeper = RunKeeper(store, lease=0.03)
    keeper.begin()
    await eventually(lambda: len(store.renewed) > 3)
    store.is_away = True
    count = len(store.renewed)
    await eventually(lambda: len(store.renewed) > count + 2)
    store.is_away = False
    count = len(store.renewed)
    await eventually(lambda: len(store.renewed) > count + 2)
    await keeper.stop()
    count = len(store.renewed)
    await asyncio.sleep(0.05)
    assert len(store.renewed) == count
    assert store.passes == []  # nothing limits what is kept


async def test_all_runs_of_dead_processes_are_ended_and_told_of():
    store, told = Store(), []
    records = [sample_record(executor="dead") for _ in range(250)]
    await store.begin_many(records)
    store.dead = [RunState(record) for record in records]
    keeper = RunKeeper(store, reaped=told.append, lease=0.03)
    keeper.begin()
    await eventually(lambda: len(told) == 250)
    await keeper.stop()
    assert all([(await store.get(record.id)).has_ended for record in records])


async def test_pruning_goes_on_until_nothing_is_beyond_the_limits():
    store = Store()
    keeper = RunKeeper(store, RunRetention(max_runs=5), prune_seconds=60.0)
    keeper.begin()
    await eventually(lambda: len(store.passes) == 3)
    await keeper.stop()


async def test_a_thread_renews_the_lease_while_the_event_loop_stands_still(monkeypatch):
    class Guarded(Store):
        def __init__(self):
            super().__init__()
            self.rescued, self.ended = [], []

        def renew_in_thread(self, lease=6.0):
            self.rescued.append(threading.get_ident())
            if len(self.rescued) == 1:
                raise BackendUnavailable("away")
            if len(self.rescued) == 2:
                raise RuntimeError("odd")

        def end_thread(self):
            self.ended.append(threading.get_ident())

    store = Guarded()
    keeper = RunKeeper(store, lease=0.06)
    keeper.begin()
    await eventually(lambda: len(store.renewed) > 3)
    end = time.monotonic() + 20
    while len(store.rescued) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert len({*store.rescued}) == 1
    assert store.rescued[0] != threading.get_ident()
    monkeypatch.setattr(lease_guard, "STANDSTILL_SECONDS", 0.0)
    time.sleep(0.05)
    count = len(store.rescued)
    time.sleep(0.1)
    assert len(store.rescued) == count  # it has stood still for too long
    await keeper.stop()
    assert store.ended == store.rescued[:1]
