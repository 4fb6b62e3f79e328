"""Following stored runs: what followers share, and what they go through."""

from __future__ import annotations

import asyncio

import pytest

from nexus_core import BackendUnavailable
from nexus_core.runs import feed
from nexus_core.runs.contract.base import sample_end, sample_events, sample_record
from nexus_core.runs.memory import MemoryRunStore
from nexus_core.testing import eventually


class CountingStore(MemoryRunStore):
    def __init__(self):
        super().__init__()
        self.reads = 0
        self.is_away = False

    async def get(self, run_id, *, payloads=True):
        if self.is_away:
            raise BackendUnavailable("away")
        return await super().get(run_id, payloads=payloads)

    async def events(self, run_id, after=0, limit=1000):
        self.reads += 1
        return await super().events(run_id, after, limit)


async def collect(store, run_id, after=0):
    return [event.number async for event in store.follow(run_id, after)]


async def test_a_thousand_followers_of_a_hundred_runs_cost_one_query_for_each_change():
    store = CountingStore()
    records = [sample_record() for _ in range(100)]
    await store.begin_many(records)
    followers = [asyncio.create_task(collect(store, records[number % 100].id)) for number in range(1000)]
    await asyncio.sleep(0.05)
    for number in range(1, 4):
        store.reads = 0
        for record in records:
            await store.append(record.id, 1, sample_events(number))
        await eventually(lambda: store.reads == 100)
    for record in records:
        await store.end(sample_end(record, events=sample_events(4)))
    assert await asyncio.gather(*followers) == [[1, 2, 3, 4]] * 1000
    assert not store._feeds._feeds
    assert not store._watchers


async def test_who_is_far_behind_reads_for_himself(monkeypatch):
    monkeypatch.setattr(feed, "FEED_EVENTS", 3)
    store = CountingStore()
    record = sample_record()
    await store.begin(record)
    await store.append(record.id, 1, sample_events(*range(1, 11)))
    slow = store.follow(record.id)
    assert (await anext(slow)).number == 1
    fast = asyncio.create_task(collect(store, record.id, 8))
    await store.append(record.id, 1, sample_events(*range(11, 21)))
    await store.end(sample_end(record, events=sample_events(21)))
    assert await fast == [*range(9, 22)]
    assert [event.number async for event in slow] == [*range(2, 22)]


async def test_followers_wait_through_an_outage(monkeypatch):
    monkeypatch.setattr(feed, "RETRY_SECONDS", 0.01)
    store = CountingStore()
    record = sample_record()
    await store.begin(record)
    follower = asyncio.create_task(collect(store, record.id))
    await asyncio.sleep(0.02)
    store.is_away = True
    await store.append(record.id, 1, sample_events(1))
    await asyncio.sleep(0.05)
    store.is_away = False
    await store.end(sample_end(record, events=sample_events(2)))
    assert await asyncio.wait_for(follower, 20) == [1, 2]


async def test_following_begins_with_an_error_while_the_store_is_away():
    store = CountingStore()
    store.is_away = True
    with pytest.raises(BackendUnavailable):
        await collect(store, "r1")


async def test_a_follower_who_leaves_ends_the_feed():
    store = CountingStore()
    record = sample_record()
    await store.begin(record)
    beats = store.follow(record.id, heartbeat=0.01)
    assert await anext(beats) is None
    await beats.aclose()
    assert not store._feeds._feeds
    assert not store._watchers
