"""The store in a file does what every store does, against a model too; and fails as every store does."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from nexus_sessions.sqlite_store import SqliteStore

from nexus_core import BackendUnavailable
from nexus_core.state.stores import Store

BYTES = bytes(range(256)) * 4


@pytest.fixture(name="path")
def path_fixture(tmp_path):
    return tmp_path / "deep" / "er" / "state.db"


@pytest.fixture(name="store")
async def store_fixture(path):
    store = SqliteStore(path)
    yield store
    await store.close()


def rows(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT count(*) FROM entries").fetchone()[0]


def test_it_is_a_store(store):
    assert isinstance(store, Store)
    assert store.name == "sqlite"


async def test_a_value_is_there_until_it_is_deleted(store, path):
    assert await store.get("a") is None
    await store.set("a", BYTES, 60)
    await store.set("b", b"", 60)
    assert await store.get("a") == BYTES
    assert await store.get("b") == b""
    assert await store.delete("a")
    assert not await store.delete("a")
    assert await store.get("a") is None
    other = SqliteStore(path)
    assert await other.get("b") == b""
    await other.close()


async def test_only_the_first_adds(store):
    answers = await asyncio.gather(*(store.add("a", str(i).encode(), 60) for i in range(20)))
    winner = str(answers.index(None)).encode()
    assert answers.count(None) == 1
    assert set(answers) == {None, winner}
    assert await store.get("a") == winner


async def test_only_one_replaces(store):
    await store.set("a", b"old", 60)
    answers = await asyncio.gather(*(store.replace("a", b"old", str(i).encode(), 60) for i in range(20)))
    assert answers.count(True) == 1
    assert await store.get("a") == str(answers.index(True)).encode()


@pytest.mark.parametrize("key", ["", "ä\n\0 %s {x}", "\ud800", "k" * 5000])
async def test_any_text_is_a_key(store, key):
    await store.set(key, b"1", 60)
    assert await store.get(key) == b"1"
    assert await store.get(key + "x") is None


async def test_what_has_expired_is_deleted_now_and_then(path, monkeypatch, eventually):
    monkeypatch.setattr("nexus_sessions.sqlite_store.PURGED", 7)
    now = [1000.0]
    store = SqliteStore(path, clock=lambda: now[0])
    for number in range(20):
        await store.set(str(number), b"1", 60)
    await store.set("stays", b"1", 100)
    assert rows(path) == 21
    now[0] += 61
    monkeypatch.setattr(store, "_next_purge", 0.0)
    for left in (14, 7, 1, 1):  # more than can be deleted at a time: the next change goes on
        await store.delete("nothing")
        assert rows(path) == left
    assert await store.get("stays") == b"1"
    await store.close()


async def test_no_step_holds_the_event_loop_up(store, path):
    """While somebody else has the file locked, too."""
    await store.set("a", b"1", 60)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    longest, ticking = 0.0, True

    async def tick():
        nonlocal longest
        while ticking:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    ticker = asyncio.create_task(tick())
    writing = asyncio.create_task(store.set("a", b"2", 60))
    for _ in range(50):
        assert await store.get("a") == b"1"  # nor does a writer hold readers up
    assert not writing.done()
    await asyncio.sleep(1)
    other.execute("ROLLBACK")
    await writing
    ticking = False
    await ticker
    other.close()
    assert await store.get("a") == b"2"
    assert longest < 0.8


async def test_a_file_that_stays_locked_is_not_available(path, caplog):
    store = SqliteStore(path, lock_seconds=0.1)
    await store.set("a", b"1", 60)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        with pytest.raises(BackendUnavailable) as refused:
            await store.add("b", b"1", 60)
    assert refused.value.retry_after == 1.0
    other.execute("ROLLBACK")
    other.close()
    assert await store.add("b", b"1", 60) is None
    assert caplog.messages == [f"The store sqlite can't be used: {path}: database is locked"]
    await store.close()


async def test_whoever_waits_too_long_for_others_does_not_come_to_pass(path):
    store = SqliteStore(path, lock_seconds=1.0, step_seconds=0.3)
    await store.set("a", b"1", 60)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(*(store.set(str(n), b"1", 60) for n in range(3)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {BackendUnavailable}
    other.execute("ROLLBACK")
    other.close()
    await store.set("last", b"1", 5)
    assert [await store.get(str(n)) for n in (1, 2)] == [None, None]  # the first was under way
    await store.close()


async def test_a_damaged_file_is_not_available(path, caplog):
    store = SqliteStore(path)
    await store.set("a", BYTES * 100, 60)
    await store.close()
    path.write_bytes(b"no database " * 1000)
    for attempt in (store.get("a"), store.set("a", b"1", 60), store.delete("a")):
        with pytest.raises(BackendUnavailable):
            await attempt
    assert caplog.messages == [f"The store sqlite can't be used: {path}: file is not a database"]
    path.unlink()
    await store.set("a", b"1", 60)  # it is opened anew
    assert await store.get("a") == b"1"
    await store.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [("CREATE TABLE t (a)", "another program"), ("PRAGMA user_version = 3", "another program"),
     ("PRAGMA application_id = 1315272821; PRAGMA user_version = 9", "version 9"),
     ("PRAGMA application_id = 7", "another program")],
)  # fmt: skip
async def test_another_programs_file_is_left_alone(tmp_path, caplog, make, message):
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(make)
    connection.close()
    before = path.read_bytes()
    store = SqliteStore(path)
    with pytest.raises(BackendUnavailable):
        await store.set("a", b"1", 60)
    assert message in caplog.messages[0]
    assert path.read_bytes() == before


FULL = """
import asyncio, resource, sys
from nexus_sessions.sqlite_store import SqliteStore
from nexus_core import BackendUnavailable

async def main():
    store = SqliteStore(__import__("pathlib").Path(sys.argv[1]))
    await store.set("small", b"1", 60)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        await store.set("large", bytes(1_000_000), 60)
    except BackendUnavailable as exc:
        print(exc.code, await store.get("small"), await store.get("large"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.set("large", bytes(1_000_000), 60)
    print(len(await store.get("large")))
    await store.close()

import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
asyncio.run(main())
"""


def test_a_full_disk_is_told_and_leaves_what_was_there(path):
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["backend_unavailable b'1' None", "1000000"], done.stderr
    assert done.stderr.count("The store sqlite can't be used") == 1


OPEN = """
import pathlib, sys
from nexus_sessions.sqlite_store import SqliteStore

for number in range(int(sys.argv[2])):
    sys.stdin.readline()
    SqliteStore(pathlib.Path(sys.argv[1]) / f"{number}.db").check()
    print(number, flush=True)
"""


def test_processes_that_open_a_new_file_at_once_all_can(tmp_path):
    command, pipes = [sys.executable, "-c", OPEN, str(tmp_path), "40"], {"stdin": subprocess.PIPE, "text": True}
    pipes |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for number in range(40):
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout.readline() == f"{number}\n", process.communicate(timeout=10)[1]
    for process in processes:
        process.communicate(timeout=10)
        assert process.returncode == 0


ADD = """
import asyncio, pathlib, sys
from nexus_sessions.sqlite_store import SqliteStore

async def main(path, count):
    store, first = SqliteStore(path), 0
    for number in range(count):
        first += await store.add(f"number {number}", b"1", 600) is None
        while True:
            old = await store.add("count", b"1", 600)
            if old is None or await store.replace("count", old, str(int(old) + 1).encode(), 600):
                break
    await store.close()
    print(first)

asyncio.run(main(pathlib.Path(sys.argv[1]), int(sys.argv[2])))
"""


def test_processes_that_begin_at_once_lose_nothing(path):
    command = [sys.executable, "-c", ADD, str(path), "100"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    first = 0
    for process in processes:
        printed, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        first += int(printed)
    assert first == 100  # each was added once
    assert asyncio.run(SqliteStore(path).get("count")) == b"400"


KILLED = """
import asyncio, pathlib, sys
from nexus_sessions.sqlite_store import SqliteStore

async def main(path):
    store, number = SqliteStore(path), 0
    while True:
        number += 1
        await store.set("number", str(number).encode(), 600)
        print(number, flush=True)

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


async def test_what_was_committed_survives_kill_9(path):
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
        told = 0
        for line in process.stdout:
            told = int(line)
            if told == 50:
                process.kill()
        process.wait()
        store = SqliteStore(path)
        found = int(await store.get("number"))
        assert found in (told, told + 1)
        assert await store.add("number", b"x", 60) == str(found).encode()
        await store.close()


async def test_it_goes_on_in_another_event_loop(store):
    await store.set("a", b"1", 60)
    assert await asyncio.to_thread(asyncio.run, store.get("a")) == b"1"


async def test_nothing_stays_open(path):
    def opened():
        found = set()
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found.add(os.readlink(f"/proc/self/fd/{number}"))
        return {name for name in found if name.startswith(str(path))}

    store = SqliteStore(path)
    await store.set("a", b"1", 60)
    assert await store.get("a") == b"1"
    assert opened()
    await store.close()
    assert not opened()
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


# Against a model

KEYS = st.sampled_from(["a", "b", "\ud800"])
VALUES = st.sampled_from([b"", b"1", b"2", b"\0", b"x" * 5000])
TTLS = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 10.0, 1e9, math.inf, math.nan])


class SqliteStoreMachine(RuleBasedStateMachine):
    """Two processes' stores on one file, and a dictionary: all answer alike."""

    path = None
    runner = None

    @initialize()
    def make(self):
        self.now = 1000.0
        self.path.unlink(missing_ok=True)
        self.stores = [SqliteStore(self.path, clock=lambda: self.now) for _ in range(2)]
        self.kept = {}

    def run(self, work):
        return self.runner.run(work)

    def there(self, key):
        value, end = self.kept.get(key, (None, -math.inf))
        return value if end > self.now else None

    def put(self, key, value, ttl):
        self.kept.pop(key, None)
        if ttl > 0:
            self.kept[key] = (value, self.now + ttl)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 9.0, 1e6]))
    def wait(self, seconds):
        self.now += seconds

    @rule(which=st.integers(0, 1), key=KEYS)
    def get(self, which, key):
        assert self.run(self.stores[which].get(key)) == self.there(key)

    @rule(which=st.integers(0, 1), key=KEYS, value=VALUES, ttl=TTLS)
    def set(self, which, key, value, ttl):
        self.run(self.stores[which].set(key, value, ttl))
        self.put(key, value, ttl)

    @rule(which=st.integers(0, 1), key=KEYS, value=VALUES, ttl=TTLS)
    def add(self, which, key, value, ttl):
        there = self.there(key)
        assert self.run(self.stores[which].add(key, value, ttl)) == there
        if there is None:
            self.put(key, value, ttl)

    @rule(which=st.integers(0, 1), key=KEYS, old=VALUES, new=VALUES, ttl=TTLS)
    def replace(self, which, key, old, new, ttl):
        fits = self.there(key) == old
        assert self.run(self.stores[which].replace(key, old, new, ttl)) is fits
        if fits:
            self.put(key, new, ttl)

    @rule(which=st.integers(0, 1), key=KEYS, value=st.none() | VALUES)
    def delete(self, which, key, value):
        there = self.there(key)
        goes = there is not None and value in (None, there)
        assert self.run(self.stores[which].delete(key, value)) is goes
        if goes:
            del self.kept[key]

    @rule(which=st.integers(0, 1))
    def restart(self, which):
        self.run(self.stores[which].close())
        self.stores[which] = SqliteStore(self.path, clock=lambda: self.now)

    def teardown(self):
        for store in self.stores:
            self.run(store.close())


def test_it_does_what_the_model_does(tmp_path):
    from hypothesis.stateful import run_state_machine_as_test

    with asyncio.Runner() as runner:
        SqliteStoreMachine.path, SqliteStoreMachine.runner = tmp_path / "state.db", runner
        limits = settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        )
        run_state_machine_as_test(SqliteStoreMachine, settings=limits)


async def test_a_probe_says_what_room_there_is_and_why_the_file_is_of_no_use(path, monkeypatch):
    store = SqliteStore(path, lock_seconds=0.1)
    assert (await store.probe())["free_bytes"] > 0
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailable, match="locked"):
            await store.probe()
        other.execute("ROLLBACK")
    path.rename(path.with_suffix(".moved"))
    with pytest.raises(BackendUnavailable, match="No such file"):
        await store.probe()
    assert await store.probe()
    monkeypatch.setattr("nexus_sessions.sqlite_store.FREE_BYTES", 2**60)
    with pytest.raises(BackendUnavailable, match=r"the disk is full, [0-9]+ bytes are left"):
        await store.probe()
    await store.close()


@pytest.mark.parametrize(("options", "names"), [({"session_backend": "sqlite"}, ["sqlite"]), ({}, [])])
async def test_the_file_is_checked_where_it_is_used(start, path, options, names):
    nexus = await start(sqlite_path=str(path), **options)
    checks = nexus.health_checks()
    assert [each.name for each in checks] == names
    for each in checks:
        assert each.is_critical
        assert (await each.check())["free_bytes"] > 0
