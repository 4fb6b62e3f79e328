"""`MemoryRunStore`: it keeps the contract, and its bounds."""

from __future__ import annotations

from dataclasses import replace

from nexus_core.runs.contract import RunStoreContract
from nexus_core.runs.contract.base import sample_end, sample_record
from nexus_core.runs.memory import MemoryRunStore
from nexus_core.runs.record import RunChange, RunFilter


class TestContract(RunStoreContract):
    def place(self):
        return None

    def store(self, place):
        return MemoryRunStore(history_ttl=1e12)  # its runs have ended long ago


async def add(store, run_id, owner, size=2):
    record = sample_record(run_id, owner=owner)
    await store.write([RunChange.begin(record), sample_end(record, result=b"x" * size)])


async def kept(store):
    return sorted(state.record.id for state in await store.find(RunFilter()))


async def test_a_caller_with_few_runs_keeps_them_however_many_others_make():
    store = MemoryRunStore(history=5)
    await add(store, "few", "ann")
    for number in range(20):
        await add(store, f"many-{number:02}", "bob")
    assert await kept(store) == ["few", *(f"many-{number}" for number in range(16, 20))]


async def test_the_bytes_of_results_are_bounded_too():
    store = MemoryRunStore(history_bytes=10_000)
    await add(store, "small", "ann", 100)
    for number in range(20):
        await add(store, f"large-{number:02}", "bob", 4_000)
    assert await kept(store) == ["large-18", "large-19", "small"]
    await add(store, "huge", "bob", 20_000)
    assert await kept(store) == ["small"]


async def test_runs_are_kept_for_a_time():
    now = [1000.0]
    store = MemoryRunStore(history_ttl=10.0, clock=lambda: now[0])
    record, going = sample_record("old"), sample_record("going")
    await store.begin_many([record, going])
    await store.end(replace(sample_end(record), finished_at=1000.0))
    now[0] = 1009.0
    assert await kept(store) == ["going", "old"]
    now[0] = 1011.0
    assert await kept(store) == ["going"]
    assert await store.get("old") is None
