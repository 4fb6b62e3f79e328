"""One process with the engine: its journal, and what it refuses."""

from __future__ import annotations

import asyncio
import stat

import pytest
from nexus_dbos.engine import DbosRunEngine
from nexus_dbos.place import Database

from nexus_core.errors import BackendUnavailable, ConfigurationError
from nexus_core.runs.journal import JournalMismatch
from nexus_core.runs.work import Offer, Work, Worker


def returning(outcome, calls=None):
    async def call():
        if calls is not None:
            calls.append(outcome)
        return outcome

    return call


def worker(perform):
    """Return how a process works that offers the workflow of the tests."""
    return Worker(perform, lambda: {"work": Offer()}, 8)


async def attempts(place, *performs):
    """Let attempts at one run do each what it is given; all but the last do not end."""
    for number, perform in enumerate(performs):
        last = perform is performs[-1]
        engine, done = DbosRunEngine(place, 0.02), asyncio.get_running_loop().create_future()

        async def work(run_id, task, journal, perform=perform, done=done, last=last):
            try:
                value = await perform(journal)
            except Exception as exc:
                done.set_exception(exc)
                raise
            done.set_result(value)
            if not last:
                await asyncio.Event().wait()

        await engine.open(f"executor {number}", worker(work))
        try:
            await engine.start(Work("run", b"{}", "work"))
            value = await asyncio.wait_for(done, 20)
        finally:
            await engine.close()
    return value


OUTCOMES = [
    b'{"a": "\xc3\xa9\\u0000"}',
    b"null",
    b"\xff\x00 not a text",
    b"=",
    b"",
    b'"' + b"\\\x22" * 4_000_000 + b'"',
]


async def test_outcomes_come_back_as_they_were(place):
    async def perform(journal):
        return [await journal.once(str(number), returning(each)) for number, each in enumerate(OUTCOMES)]

    async def again(journal):
        return [await journal.once(str(number), returning(b"other")) for number in range(len(OUTCOMES))]

    assert await attempts(place, perform, again) == OUTCOMES


async def test_places_are_in_the_order_of_calls_even_at_once(place):
    async def perform(journal):
        names = [returning(str(number).encode()) for number in range(20)]
        return await asyncio.gather(*(journal.once(f"{number % 2}", call) for number, call in enumerate(names)))

    async def again(journal):
        return await asyncio.gather(*(journal.once(f"{number % 2}", returning(b"?")) for number in range(20)))

    assert await attempts(place, perform, again) == [str(number).encode() for number in range(20)]


async def test_changed_code_is_noticed(place):
    async def perform(journal):
        await journal.once("pay", returning(b"1"))
        await journal.once("ship", returning(b"2"))

    async def changed(journal):
        await journal.once("pay", returning(b"1"))
        with pytest.raises(JournalMismatch) as caught:
            await journal.once("thank", returning(b"3"))
        return caught.value.place, caught.value.recorded, caught.value.asked

    assert await attempts(place, perform, changed) == (2, "ship", "thank")


async def test_what_a_call_raises_is_not_recorded(place):
    async def perform(journal):
        async def fails():
            raise LookupError("not yet")

        with pytest.raises(LookupError, match="not yet"):
            await journal.once("look", fails)
        return await journal.once("go on", returning(b"1"))

    async def again(journal):
        return [await journal.once("look", returning(b"2")), await journal.once("go on", returning(b"3"))]

    assert await attempts(place, perform, again) == [b"2", b"1"]


async def test_a_run_is_started_once_and_known(place, engine):
    began = []

    async def perform(run_id, task, journal):
        began.append((run_id, task))
        await journal.once("step", returning(b"1"))

    await engine.open("executor", worker(perform))
    for run_id in ("one", "one", "two", "one"):
        await engine.start(Work(run_id, b'{"x": 1}', "work"))
    async with asyncio.timeout(20):
        while len(began) < 2:
            await asyncio.sleep(0.01)
    await engine.start(Work("one", b"{}", "work"))
    assert await engine.known(["one", "none", "two"]) == {"one", "two"}
    assert sorted(began) == [("one", b'{"x": 1}'), ("two", b'{"x": 1}')]
    assert (await engine.check())["database"] == place.kind
    assert set(engine.statistics()) == {"queued", "working", "taken_over", "oldest_seconds", "workers", "unserved"}


async def test_a_run_that_is_taken_from_a_living_process_goes_on_once(place, engine):
    """As after an outage in which the process was too slow to hold its lock again."""
    began, passed, ended = [], [], asyncio.Event()

    async def perform(run_id, task, journal):
        attempt = len(began)
        began.append(attempt)
        if attempt == 0:
            await journal.once("first", returning(b"1"))
            assert engine._rows.queue_again("executor") == 1
        passed.append((attempt, await journal.once("first" if attempt else "second", returning(b"2"))))
        await journal.once("second", returning(b"3"))
        ended.set()

    await engine.open("executor", worker(perform))
    await engine.start(Work("run", b"{}", "work"))
    await asyncio.wait_for(ended.wait(), 20)
    assert (began, passed) == ([0, 1], [(1, b"1")])  # the first attempt hears of no error, and does nothing more


async def test_work_that_raises_is_begun_again(place, engine):
    began, ended = [], asyncio.Event()

    async def perform(run_id, task, journal):
        began.append(await journal.once("first", returning(b"%d" % len(began))))
        if len(began) == 1:
            raise LookupError("not yet")
        ended.set()

    await engine.open("executor", worker(perform))
    await engine.start(Work("run", b"{}", "work"))
    await asyncio.wait_for(ended.wait(), 20)
    assert began == [b"0", b"0"]


async def test_a_server_that_is_not_there():
    import pathlib

    engine = DbosRunEngine(Database(pathlib.Path("unused"), "postgresql://127.0.0.1:1/none"))
    with pytest.raises(BackendUnavailable):
        await engine.open("executor", None)
    with pytest.raises(BackendUnavailable):
        await engine.start(Work("run", b"{}", "work"))


async def test_files(tmp_path):
    (tmp_path / "text").write_text("this is no database, but a text that is long enough" * 10)
    with pytest.raises(ConfigurationError, match="dbos_sqlite_path"):
        await DbosRunEngine(Database(tmp_path / "text")).open("executor", None)
    engine = DbosRunEngine(Database(tmp_path / "folder" / "dbos.db"))
    await engine.open("executor", None)
    assert stat.S_IMODE((tmp_path / "folder" / "dbos.db").stat().st_mode) == 0o600
    await engine.close()
