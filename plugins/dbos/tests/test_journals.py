"""Tasks and journals of runs, for those that do not work on them: repeated, begun anew, encrypted."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from contextlib import asynccontextmanager

import pytest
from nexus_dbos.cipher import Cipher, Unreadable, keys_of
from nexus_dbos.engine import DbosRunEngine
from nexus_dbos.place import Database

from nexus_core.errors import BackendUnavailable, RunNotFound
from nexus_core.runs.work import Beginning, Offer, Work, Worker

OLD, NEW, OTHER = (bytes([number]) * 32 for number in range(3))
SECRET = "correct horse battery staple"


@asynccontextmanager
async def opened(place, perform=None, keys=()):
    engine = DbosRunEngine(place, 0.02, Cipher(keys))
    worker = None if perform is None else Worker(perform, lambda: {"work": Offer()}, 4)
    await engine.open(os.urandom(8).hex(), worker)
    try:
        yield engine
    finally:
        await engine.close()


def performing(done, names="abc"):
    """Return what does a step for each name, and tells what the steps returned."""

    async def perform(run_id, task, journal):
        outcomes = []
        for name in names:

            async def call(name=name):
                return f'"{SECRET} {name} of {run_id}"'.encode()

            outcomes.append((await journal.once(name, call)).decode())
        done[run_id].set_result((task, outcomes))

    return perform


class Done(dict):
    def __missing__(self, run_id):
        self[run_id] = asyncio.get_running_loop().create_future()
        return self[run_id]

    async def of(self, run_id):
        return await asyncio.wait_for(asyncio.shield(self[run_id]), 30)


@pytest.fixture
def file(tmp_path):
    """What does not depend on the kind of the database is tested with one."""
    return Database(tmp_path / "dbos.db")


def stored(engine):
    """Return all that DBOS's tables hold of tasks and outcomes."""
    with engine._client._sys_db.engine.begin() as connection:
        schema = "" if engine._place.url is None else f'"{engine._place.schema}".'
        tables = {"workflow_input": "inputs", "operation_outputs": "output"}
        return "".join(
            each or ""
            for table, column in tables.items()
            for each in connection.exec_driver_sql(f"SELECT {column} FROM {schema}{table}").scalars()
        )


async def test_a_run_begins_with_outcomes_of_another_one(place):
    done = Done()
    async with opened(place, performing(done)) as engine:
        await engine.start(Work("first", b'{"params": 1}', "work"))
        await done.of("first")
        assert await engine.task("first") == b'{"params": 1}'
        assert await engine.task("none") is None
        assert await engine.places("first") == ["a", "b", "c"]
        assert await engine.places("none") == []
        await engine.start(Work("second", b"{}", "work"), Beginning("first", 2))
        assert (await done.of("second"))[1] == [
            f'"{SECRET} a of first"', f'"{SECRET} b of first"', f'"{SECRET} c of second"'
        ]  # fmt: skip
        with pytest.raises(RunNotFound, match="has no 4 recorded steps"):
            await engine.start(Work("half", b"{}", "work"), Beginning("first", 4))
        assert await engine.known(["half"]) == set()  # nothing is left of a beginning that breaks off
        assert await engine.places("half") == []
        await engine.start(Work("third", b"{}", "work"), Beginning("second", 0))
        assert (await done.of("third"))[1][0] == f'"{SECRET} a of third"'
        assert await engine.places("second") == ["a", "b", "c"]


async def test_a_run_that_can_not_begin_so_is_not_begun(place):
    async with opened(place) as engine:
        for beginning in (Beginning("none", 1), Beginning("none", 10)):
            with pytest.raises(RunNotFound):
                await engine.start(Work("run", b"{}", "work"), beginning)
        assert await engine.known(["run"]) == set()
        await engine.start(Work("run", b"{}", "work"))
        await engine.start(Work("run", b"{}", "work"), Beginning("none", 1))  # it is known


async def test_places_end_before_one_that_is_at_work(place):
    began, leave = asyncio.Event(), asyncio.Event()

    async def perform(run_id, task, journal):
        async def slow():
            began.set()
            await leave.wait()
            return b"1"

        async def quick():
            return b"2"

        slowly = asyncio.ensure_future(journal.once("b", slow))
        await began.wait()
        await journal.once("c", quick)
        leave.set()
        await slowly

    async def after_a(run_id, task, journal):
        async def first():
            return b"0"

        await journal.once("a", first)
        await perform(run_id, task, journal)

    async with opened(place, after_a) as engine:
        holding, leave.set = asyncio.Event(), lambda: holding.set()
        await engine.start(Work("run", b"{}", "work"))
        await asyncio.wait_for(holding.wait(), 30)
        assert await engine.places("run") == ["a"]


async def test_nothing_is_stored_in_the_clear(place):
    done = Done()
    async with opened(place, performing(done), [NEW, OLD]) as engine:
        assert engine.hides_tasks
        await engine.start(Work("run", f'{{"password": "{SECRET}"}}'.encode(), "work"))
        task, outcomes = await done.of("run")
        assert SECRET.encode() in task
        assert SECRET in outcomes[0]
        assert await engine.task("run") == task
        assert SECRET not in stored(engine)
        assert "password" not in stored(engine)
    async with opened(place) as engine:
        assert not engine.hides_tasks
        with pytest.raises(BackendUnavailable, match="dbos_encryption_key is not set"):
            await engine.task("run")


async def test_keys_are_changed(file):
    done, stay = Done(), asyncio.Event()

    async def leaves(run_id, task, journal):
        async def call():
            return b'"before"'

        await journal.once("a", call)
        stay.set()
        await asyncio.Event().wait()

    for keys, perform in (([], leaves), ([NEW, OLD], performing(done))):
        async with opened(file, perform, keys) as engine:
            stay.clear()
            if not keys:
                await engine.start(Work("run", b"{}", "work"))
            if perform is leaves:
                await asyncio.wait_for(stay.wait(), 30)
            else:
                assert (await done.of("run"))[1][0] == '"before"'
                await engine.start(Work("second", b"{}", "work"), Beginning("run", 2))
                assert (await done.of("second"))[1][:2] == (await done.of("run"))[1][:2]
    async with opened(file, None, [NEW]) as engine:
        assert await engine.task("second") == b"{}"


async def test_a_run_without_its_key_waits_for_a_process_that_has_it(file, caplog):
    done = Done()
    async with opened(file, None, [NEW]) as engine:
        await engine.start(Work("run", b"{}", "work"))
    began = []

    async def perform(run_id, task, journal):
        began.append(run_id)

    async with opened(file, perform, [OTHER]) as engine:
        async with asyncio.timeout(30):
            while "dbos_encryption_key has another key" not in caplog.text:
                await asyncio.sleep(0.02)
        assert await engine.known(["run"]) == {"run"}
    assert began == []
    async with opened(file, performing(done), [OTHER, NEW]):
        await done.of("run")


async def test_outcomes_without_their_key_are_noticed_before_the_run_goes_on(place, caplog):
    """The task has a key that this process has, the outcome does not."""
    stay, began = asyncio.Event(), []

    async def leaves(run_id, task, journal):
        async def call():
            return b'"before"'

        await journal.once("a", call)
        stay.set()
        raise RuntimeError("a mistake")

    async def perform(run_id, task, journal):
        began.append(run_id)

    async with opened(place, None, [OLD]) as engine:
        await engine.start(Work("run", b"{}", "work"))
    async with opened(place, leaves, [NEW, OLD]):
        await asyncio.wait_for(stay.wait(), 30)
        async with asyncio.timeout(30):
            while "was not done" not in caplog.text:
                await asyncio.sleep(0.02)
    async with opened(place, perform, [OLD]):
        async with asyncio.timeout(30):
            while "dbos_encryption_key has another key" not in caplog.text:
                await asyncio.sleep(0.02)
    assert began == []


def test_texts_belong_to_their_place():
    cipher = Cipher([NEW])
    stored = cipher.encrypt("text", "run", 1)
    assert cipher.decrypt(stored, "run", 1) == "text"
    assert stored != cipher.encrypt("text", "run", 1)
    for run_id, place, changed in (("other", 1, stored), ("run", 2, stored), ("run", 1, stored[:-4] + "AAA=")):
        with pytest.raises(Unreadable, match="was changed"):
            cipher.decrypt(changed, run_id, place)


def test_keys_have_32_bytes():
    first, second = base64.b64encode(NEW).decode(), base64.urlsafe_b64encode(b"\xff" * 32).decode()
    assert keys_of(f"{first}, {second}") == [NEW, b"\xff" * 32]
    for wrong in ("", "secret words", first[:-8], f"{first},"):
        with pytest.raises(ValueError, match="must be 32 random bytes") as caught:
            keys_of(wrong)
        assert not wrong or wrong not in str(caught.value)


async def test_what_has_not_ended_is_not_forgotten(place):
    done = Done()
    async with opened(place, performing(done)) as engine:
        await engine.start(Work("ended", b"{}", "work"))
        await done.of("ended")
        await engine.start(Work("waiting", b"{}", "nobody's"))
        async with asyncio.timeout(30):
            while await engine.ended(time.time() + 60, 10) != ["ended"]:
                await asyncio.sleep(0.02)
        assert await engine.ended(time.time() - 60, 10) == []
        await engine.forget(["ended", "waiting", "none"])
        assert await engine.known(["ended", "waiting"]) == {"waiting"}
        assert await engine.places("ended") == []
        assert "ended" not in stored(engine)
        assert await engine.task("waiting") == b"{}"
