"""`ChangeQueue`: batches, bounds, and what becomes of changes while the store is away."""

from __future__ import annotations

import asyncio
import logging

import pytest
from nexus_runs.change_queue import ChangeQueue

from nexus_core import BackendUnavailable
from nexus_core.runs.contract.base import sample_end, sample_record
from nexus_core.runs.record import RunChange, RunEvent, Written
from nexus_core.runs.status import RunStatus


class Store:
    """Takes batches, or fails as long as it is away."""

    def __init__(self, max_waiting=100, max_bytes=10_000):
        self.batches, self.awaited = [], []
        self.is_away = False
        self.poison = None
        self.queue = ChangeQueue("test", self.apply, lambda changes, written: None, max_waiting, max_bytes)
        self.queue.is_open = True

    async def apply(self, changes, is_awaited):
        await asyncio.sleep(0)
        if self.is_away:
            raise BackendUnavailable("away")
        if any(change.run_id == self.poison for change in changes):
            raise ValueError("it can't be written")
        self.batches.append([change.run_id for change in changes])
        self.awaited.append(is_awaited)
        self.changes = changes
        return [Written(True, 0) for _ in changes]


def begin(run_id, params=b"{}"):
    return RunChange.begin(sample_record(run_id, params=params))


async def test_what_is_written_at_the_same_time_is_one_batch():
    store = Store()
    await asyncio.gather(*(store.queue.write([begin(f"r{number}")]) for number in range(50)))
    assert len(store.batches) <= 2
    assert sum(map(len, store.batches)) == 50


async def test_later_changes_of_one_run_are_one_write():
    store = Store()
    record = sample_record("r1")
    store.queue.write_later(RunChange.begin(record))
    store.queue.write_later(RunChange("r1", status=RunStatus.RUNNING, started_at=1.0))
    store.queue.write_later(RunChange("r1", events=(RunEvent(1, b"{}"),)))
    store.queue.write_later(sample_end(record))
    await store.queue.close()
    (change,) = store.changes
    assert (change.record, change.status, change.started_at) == (record, RunStatus.COMPLETED, 1.0)
    assert (len(change.events), change.result) == (1, b"3")
    assert store.awaited == [False]


async def test_a_change_that_is_awaited_comes_between_later_ones():
    store = Store()
    store.queue.write_later(begin("r1"))
    written = asyncio.create_task(store.queue.write([RunChange("r1", events=(RunEvent(1, b"{}"),))]))
    await asyncio.sleep(0)
    store.queue.write_later(RunChange("r1", events=(RunEvent(2, b"{}"),)))
    assert await written == [(True, 0)]
    await store.queue.close()
    assert [run_id for batch in store.batches for run_id in batch] == ["r1"] * 3


async def test_while_the_store_is_away_later_changes_wait_and_others_fail_at_once(eventually, caplog):
    caplog.set_level(logging.INFO)
    store = Store()
    store.is_away = True
    for number in range(20):
        store.queue.write_later(begin(f"r{number}"))
    with pytest.raises(BackendUnavailable) as raised:
        await store.queue.write([begin("now")])
    assert raised.value.retry_after == 1.0
    with pytest.raises(BackendUnavailable):
        await store.queue.write([begin("now")])  # it does not even try
    assert store.queue.waiting == 20
    store.is_away = False
    await eventually(lambda: not store.queue.waiting)
    assert [run_id for batch in store.batches for run_id in batch] == [f"r{number}" for number in range(20)]
    await eventually(lambda: "is back" in caplog.text)
    assert await store.queue.write([begin("now")]) == [(True, 0)]
    assert caplog.text.count("is unavailable, runs wait") == 1


async def test_what_waits_is_bounded_and_drops_are_counted(eventually, caplog):
    store = Store(max_waiting=10)
    store.is_away = True
    going = sample_record("going")
    for number in range(30):
        store.queue.write_later(begin(f"r{number}"))
    assert (store.queue.waiting, store.queue.dropped) == (10, 20)
    store.queue.write_later(sample_end(going, result=b"x" * 100))  # how a stored run has ended is not dropped
    assert (store.queue.waiting, store.queue.dropped) == (11, 20)
    store.is_away = False
    await eventually(lambda: not store.queue.waiting)
    assert (store.changes[-1].run_id, store.changes[-1].result) == ("going", None)
    assert "Runs are not stored: too many of them wait" in caplog.text


async def test_the_bytes_that_wait_are_bounded_too():
    store = Store(max_bytes=10_000)
    store.is_away = True
    for number in range(5):
        store.queue.write_later(begin(f"r{number}", params=b"x" * 4000))
    assert (store.queue.waiting, store.queue.dropped) == (2, 3)
    store.is_away = False
    await store.queue.close()


async def test_a_change_that_can_not_be_written_harms_no_other(eventually):
    store = Store()
    store.poison = "bad"
    for name in ("a", "bad", "b"):
        store.queue.write_later(begin(name))
    good, bad = (
        asyncio.create_task(store.queue.write([begin("c")])),
        asyncio.create_task(store.queue.write([begin("bad")])),
    )
    assert await good == [(True, 0)]
    with pytest.raises(ValueError, match="it can't be written"):
        await bad
    assert store.queue.dropped == 1
    assert sorted(run_id for batch in store.batches for run_id in batch) == ["a", "b", "c"]


async def test_closing_writes_what_waits_and_says_what_is_lost(monkeypatch, caplog):
    monkeypatch.setattr("nexus_runs.change_queue.CLOSE_SECONDS", 0.1)
    store = Store()
    store.queue.write_later(begin("r1"))
    await store.queue.close()
    assert store.batches == [["r1"]]
    store.queue.write_later(begin("too late"))
    assert store.queue.dropped == 1
    with pytest.raises(BackendUnavailable):
        await store.queue.write([begin("too late")])
    store.queue.is_open = store.is_away = True
    store.queue.write_later(begin("r2"))
    waiting = asyncio.create_task(store.queue.write([begin("r3")]))
    await asyncio.sleep(0)
    await store.queue.close()
    with pytest.raises(BackendUnavailable):
        await waiting
    assert store.queue.dropped == 2
    assert "when the process ended" in caplog.text
