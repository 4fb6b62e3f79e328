"""What must not keep a run from its end in the store, nor a secret from staying one."""

from __future__ import annotations

import asyncio
import logging
import stat
import time

import pytest
from nexus_runs.change_queue import ChangeQueue
from nexus_runs.plugin import RunsPlugin
from nexus_runs.sqlite_store import SqliteRunStore

from nexus_core import BackendUnavailable, MalformedRequest, Nexus, WorkflowError
from nexus_core.runs.listing import filter_of
from nexus_core.runs.record import RunChange, RunEvent, RunRecord, RunStep, Written
from nexus_core.runs.retention import RunRetention
from nexus_core.runs.status import RunStatus


def begin(run_id, executor=None):
    return RunChange.begin(RunRecord(run_id, "w", "api", 1.0, executor=executor))


def end(run_id, **members):
    return RunChange(run_id, status=RunStatus.FAILED, finished_at=2.0, **members)


class Store:
    """Takes changes, but never those of a run ``poison``; it goes away after so many calls, for one call."""

    def __init__(self, away_at=0, max_bytes=10**9):
        self.applied, self.calls, self.away_at = [], 0, away_at
        self.queue = ChangeQueue("test", self.apply, lambda changes, written: None, 1000, max_bytes)
        self.queue.is_open = True

    async def apply(self, changes, is_awaited):
        self.calls += 1
        if self.calls == self.away_at:
            raise BackendUnavailable("away")
        if any(change.run_id == "poison" for change in changes):
            raise ValueError("can't write hunter2")
        self.applied += changes
        return [Written(True, 0) for _ in changes]


async def test_no_change_of_a_run_overtakes_another_where_one_cannot_be_written_and_the_store_goes_away():
    store = Store(away_at=3)
    store.queue.write_later(begin("poison"))
    store.queue.write_later(begin("run"))
    awaited = asyncio.create_task(store.queue.write([begin("other")]))
    await asyncio.sleep(0)
    store.queue.write_later(RunChange("run", events=(RunEvent(1, b"{}"),)))
    store.queue.write_later(end("run"))
    with pytest.raises(BackendUnavailable):
        await awaited
    await store.queue.close()
    mine = [change for change in store.applied if change.run_id == "run"]
    assert mine[0].record is not None
    assert [len(change.events) for change in mine] in ([0, 1], [1], [0, 0, 1], [0, 1, 0])
    assert mine[-1].status is RunStatus.FAILED
    assert store.queue.waiting == 0
    assert store.queue.dropped == 1


async def test_what_is_logged_of_a_change_that_cannot_be_written_does_not_repeat_it(caplog):
    store = Store()
    store.queue.write_later(begin("poison"))
    await store.queue.close()
    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_very_many_events_of_one_run_are_merged_at_once():
    store = Store()
    began = time.perf_counter()
    for number in range(1, 100_001):
        store.queue.write_later(RunChange("run", events=(RunEvent(number, b"{}"),)))
    store.queue.write_later(end("run"))
    assert time.perf_counter() - began < 15  # each one copied the others: half a minute
    await store.queue.close()
    assert len(store.applied) == 1
    assert [event.number for event in store.applied[0].events] == [*range(1, 100_001)]
    assert store.applied[0].status is RunStatus.FAILED


async def test_a_run_ends_in_the_store_though_its_error_is_no_unicode(tmp_path):
    def work():
        raise WorkflowError("no file a\udc80", details={"odd": {1j}, "name": ["\udc80"]})

    nexus = Nexus(
        discover=False, plugins=[RunsPlugin], run_store="sqlite", runs_sqlite_path=str(tmp_path / "runs.db")
    )  # fmt: skip
    nexus.register("work", work)
    reader = SqliteRunStore(tmp_path / "runs.db")
    async with nexus:
        with pytest.raises(WorkflowError) as failed:
            await nexus.invoke("work", {})
        run_id = failed.value.run_id
    await reader.open("reader")
    state = await reader.get(run_id)
    last = (await reader.events(run_id))[-1].to_dict()
    await reader.close()
    assert state.problem["detail"] == last["error"]["detail"] == "no file a\\udc80"
    assert (state.problem["odd"], state.problem["name"]) == ("<set>", ["\\udc80"])


async def test_odd_steps_and_problems_are_stored(place):
    store = place.make()
    await store.open("me")
    step = RunStep(1, "na\udc80me", 1, 1.0, 2.0, "failed", error="\udc80")
    await store.write([begin("run-1", "me")])
    written = await store.write([end("run-1", problem={"detail": "\udc80"}, steps=(step,))])
    assert written[0].is_applied
    assert (await store.get("run-1")).problem == {"detail": "\\udc80"}
    assert (await store.steps("run-1"))[0].error == "\\udc80"
    await store.close()


@pytest.mark.parametrize("run_id", ["a\0b", "\udc80abcdefgh", "a\nb"])
async def test_ids_that_no_run_has_are_not_found(place, run_id):
    store = place.make()
    await store.open("me")
    assert await store.get(run_id) is None
    assert await store.get(run_id, payloads=False) is None
    await store.close()


@pytest.mark.parametrize("name", ["workflow", "channel", "text"])
@pytest.mark.parametrize("value", ["a\0bcdefghi", "\udc80abcdefgh"])
def test_filters_are_printable(name, value):
    with pytest.raises(MalformedRequest, match=f"{name} must be printable"):
        filter_of({name: value})


async def test_nothing_goes_on_after_a_store_is_closed_that_somebody_follows(place):
    before = asyncio.all_tasks()
    store = place.make()
    await store.open("me")
    await store.write([begin("run-1", "me")])
    stop = store.watch("run-1", lambda: None)
    store.write_later(RunChange("run-1", events=(RunEvent(1, b"{}"),)))
    await store.close()
    await asyncio.sleep(0)
    assert {each.get_name() for each in asyncio.all_tasks() - before} == set()
    stop()


async def test_the_file_is_for_its_user_alone_and_others_with_access_are_reported(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    path = tmp_path / "private" / "runs.db"
    store = SqliteRunStore(path)
    await store.open("me")
    await store.write([begin("run-1", "me")])
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert caplog.text == ""
    await store.close()
    path.chmod(0o644)
    store = SqliteRunStore(path)
    await store.open("me-2")
    await store.close()
    assert "others have access to it (644): chmod 600" in caplog.text


async def test_values_in_queries_are_no_sql(place):
    store = place.make()
    await store.open("me")
    evil = "'; DROP TABLE runs; --\" $1 ?1 %s"
    record = RunRecord(f"run-{evil}", evil, evil, 1.0, owner=evil, executor="me")
    await store.write([RunChange.begin(record), RunChange(record.id, events=(RunEvent(1, evil.encode()),))])
    for asked in ({"workflow": evil}, {"channel": evil}, {"text": f"run-{evil}"}, {"text": evil}):
        assert [state.record.id for state in await store.find(filter_of(asked))] == [record.id]
    assert await store.request_cancel(record.id)
    assert (await store.get(record.id)).record.owner == evil
    await store.close()


async def test_a_pass_of_pruning_is_bounded_in_bytes_since_others_wait_for_it(place, monkeypatch):
    monkeypatch.setattr("nexus_runs.retention.PASS_BYTES", 1000)
    store, everything = place.make(), RunRetention(max_runs=0)
    await store.open("me")
    for number in range(5):
        events = (RunEvent(1, b"x" * 600),)
        await store.write([begin(f"run-{number}", "me"), end(f"run-{number}", events=events)])
    assert (await store.prune(everything, dry_run=True))[::2] == (5, True)
    assert [(await store.prune(everything))[::2] for _ in range(3)] == [(2, False), (2, False), (1, True)]
    await store.close()
