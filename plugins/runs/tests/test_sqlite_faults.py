"""What `SqliteRunStore` does when its file is locked, full, damaged or not its own."""

from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest
from nexus_runs import sqlite_schema
from nexus_runs.sqlite_store import SqliteRunStore

from nexus_core import BackendUnavailable, ConfigurationError
from nexus_core.runs.contract.base import ended, reached, sample_end, sample_record
from nexus_core.runs.record import RunChange, RunFilter


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
async def store(path):
    store = SqliteRunStore(path, lock_seconds=0.1)
    await store.open("one")
    yield store
    await store.close()


async def recovers(store):
    """Wait until a run can be stored again, which must not take long."""
    begin = time.monotonic()
    while True:
        try:
            record = sample_record()
            await store.begin(record)
            break
        except BackendUnavailable:
            await asyncio.sleep(0.05)
            assert time.monotonic() - begin < 20  # 5 s on a machine that is not busy
    return record


async def fails(store):
    try:
        await store.begin(sample_record())
        await store.find(RunFilter(limit=1000))
    except BackendUnavailable:
        return True
    return False


async def holds(store, record):
    try:
        return await store.get(record.id) is not None
    except BackendUnavailable:
        return False


async def test_a_locked_file_delays_late_changes_and_refuses_others(store, path, caplog):
    record = sample_record()
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailable) as raised:
            await store.begin(sample_record())
        assert raised.value.retry_after == 1.0
        store.write_later(RunChange.begin(record).then(sample_end(record)))
        assert await store.find(RunFilter()) == []  # readers do not wait
        with pytest.raises(BackendUnavailable, match=r"runs\.db: database is locked"):
            await store.check()
        other.execute("ROLLBACK")
    await recovers(store)
    await reached(lambda: ended(store, record))
    assert store.statistics() == {"waiting": 0, "dropped": 0}
    assert "database is locked" in caplog.text
    await store.check()


async def test_a_full_disk_is_reported_and_passes(path, monkeypatch, caplog):
    limit = [0]

    def prepare(connection):
        sqlite_schema.prepare(connection)
        if limit[0]:
            connection.execute(f"PRAGMA max_page_count = {limit[0]}")

    monkeypatch.setattr(sqlite_schema, "LAYOUT", sqlite_schema.LAYOUT._replace(prepare=prepare))
    store = SqliteRunStore(path)
    await store.open("one")
    await store.begin(sample_record())
    await store.close()
    limit[0] = 100
    store = SqliteRunStore(path)
    await store.open("one")
    with pytest.raises(BackendUnavailable):
        await store.begin(sample_record(params=b"x" * 1_000_000))
    assert "database or disk is full" in caplog.text
    late = sample_record(params=b"y" * 1_000_000)
    store.write_later(RunChange.begin(late).then(sample_end(late)))
    await asyncio.sleep(0.1)
    limit[0] = 0  # somebody makes room
    await recovers(store)
    await reached(lambda: ended(store, late))
    await store.close()


async def test_a_damaged_file_is_reported_and_a_good_one_taken(store, path, caplog):
    record = await recovers(store)
    await store.close()
    good = path.read_bytes()
    await store.open("one again")
    assert await store.get(record.id) is not None
    path.write_bytes(b"\0" * len(good))
    for side in (path.with_name("runs.db-wal"), path.with_name("runs.db-shm")):
        side.unlink(missing_ok=True)
    await reached(lambda: fails(store))
    assert "can't be used" in caplog.text
    path.write_bytes(good)
    for side in (path.with_name("runs.db-wal"), path.with_name("runs.db-shm")):
        side.unlink(missing_ok=True)
    await recovers(store)
    await reached(lambda: holds(store, record))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.write_bytes(b"this is no database at all" * 100), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
        (lambda path: sqlite(path, "CREATE TABLE shop (a)"), "another program"),
        (
            lambda path: sqlite(path, f"PRAGMA application_id={sqlite_schema.APPLICATION}", "PRAGMA user_version=99"),
            "it has version 99, but this program supports version 2",
        ),
    ],
    ids=["damaged", "directory", "other", "newer"],
)
async def test_a_file_that_will_not_do_stops_the_start(path, prepare, message):
    prepare(path)
    with pytest.raises(ConfigurationError, match=message) as raised:
        await SqliteRunStore(path).open("one")
    assert "runs_sqlite_path" in str(raised.value)


def sqlite(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


async def test_a_file_that_is_locked_at_the_start_is_used_later(path):
    store = SqliteRunStore(path, lock_seconds=0.1)
    await store.open("before")
    await store.close()
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        store = SqliteRunStore(path, lock_seconds=0.1)
        await store.open("one")
        other.execute("ROLLBACK")
    await recovers(store)
    await store.close()


async def test_only_this_user_may_read_the_file(store, path):
    await recovers(store)
    assert [each.stat().st_mode & 0o077 for each in path.parent.iterdir()] == [0] * 3
