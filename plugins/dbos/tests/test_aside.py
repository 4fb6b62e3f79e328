"""Runs that a process has taken and can't work on: they wait, and are worked on again."""

from __future__ import annotations

import asyncio

import pytest
from nexus_dbos import _vendor_internals, aside
from nexus_dbos.claim import Claim
from nexus_dbos.engine import DbosRunEngine

from nexus_core.runs.work import Offer, Work, WorkBlocked, Worker


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(aside, "FIRST_SECONDS", 0.05)


class Attempts:
    """Attempts at runs, as they come: the process and the number of each."""

    def __init__(self, place):
        self.place, self.seen, self.engines = place, [], []
        self._changed = asyncio.Condition()

    async def open(self, name, version, fails, concurrency=4):
        """Let a process work; ``fails`` returns what it raises."""

        async def perform(run_id, task, journal):
            async with self._changed:
                self.seen.append((name, journal.attempt))
                self._changed.notify_all()
            problem = fails(journal.attempt)
            if problem is not None:
                raise problem

        engine = DbosRunEngine(self.place, 0.02)
        self.engines.append(engine)
        await engine.open(name, Worker(perform, lambda: {"work": Offer(version)}, concurrency))
        return engine

    async def close(self):
        while self.engines:
            await self.engines.pop().close()

    async def until(self, condition):
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: condition(self.seen))
        return self.seen


@pytest.fixture
async def attempts(place):
    attempts = Attempts(place)
    yield attempts
    await attempts.close()


async def ended(engine, run_id):
    """Wait until a run has ended for the engine."""
    async with asyncio.timeout(30):
        while True:
            status = await engine._ask(lambda: engine._client._sys_db.get_workflow_status(run_id))
            if status["status"] in ("SUCCESS", "CANCELLED"):
                return status
            await asyncio.sleep(0.02)


async def test_a_mistake_is_tried_again_and_counted(attempts):
    engine = await attempts.open("one", "", lambda attempt: RuntimeError("a mistake") if attempt < 4 else None)
    await engine.start(Work("run", b"{}", "work"))
    assert (await ended(engine, "run"))["recovery_attempts"] == 4
    assert attempts.seen == [("one", 1), ("one", 2), ("one", 3), ("one", 4)]


async def test_what_could_not_begin_is_tried_again(attempts, monkeypatch):
    dispatch, failing = _vendor_internals.dispatch, [OSError("the database was away"), LookupError("it has no row")]

    def fails(dbos, run_ids, token, begins, fails):
        if len(failing) == 2:
            raise failing.pop()
        if failing:
            return fails(run_ids[0], failing.pop())
        return dispatch(dbos, run_ids, token, begins, fails)

    monkeypatch.setattr(_vendor_internals, "dispatch", fails)
    take, lost = Claim.take, [ConnectionError("the answer was lost")]

    def taken(self, *arguments):
        run_ids = take(self, *arguments)
        if run_ids and lost:
            raise lost.pop()
        return run_ids

    monkeypatch.setattr(Claim, "take", taken)
    engine = await attempts.open("one", "", lambda attempt: None, concurrency=1)
    await engine.start(Work("run", b"{}", "work"))
    assert (await ended(engine, "run"))["recovery_attempts"] == 3  # a run that was taken unseen was not attempted
    assert attempts.seen == [("one", 3)]
    assert lost == failing == []


async def test_a_run_aside_holds_no_place(attempts, monkeypatch):
    monkeypatch.setattr(aside, "FIRST_SECONDS", 600.0)
    monkeypatch.setattr(aside, "LONGEST_SECONDS", 600.0)
    failing = iter([RuntimeError("a mistake")])
    engine = await attempts.open("one", "", lambda attempt: next(failing, None), concurrency=1)
    await engine.start(Work("first", b"{}", "work"))
    await attempts.until(len)
    await engine.start(Work("second", b"{}", "work"))
    await ended(engine, "second")
    assert await engine.known(["first"]) == {"first"}
    await engine.cancel("first")
    assert (await ended(engine, "first"))["status"] == "CANCELLED"


async def test_other_code_waits_for_a_process_that_has_it(attempts):
    """Runs are begun by version 1, which stops; version 2 can't go on with them. One of them is cancelled then."""
    going = []

    async def perform(run_id, task, journal):
        going.append(run_id)
        await asyncio.Event().wait()

    old = DbosRunEngine(attempts.place, 0.02)
    await old.open("old", Worker(perform, lambda: {"work": Offer("1")}, 4))
    await old.start(Work("run", b"{}", "work"))
    await old.start(Work("cancelled", b"{}", "work"))
    async with asyncio.timeout(30):
        while len(going) < 2:
            await asyncio.sleep(0.02)
    await old.close()
    new = await attempts.open("new", "2", lambda attempt: WorkBlocked("other code"))
    for run_id in ("run", "cancelled"):
        async with asyncio.timeout(30):
            while (position := await new.position(run_id)) is None or position.reason != "version":
                await asyncio.sleep(0.02)
    await new.cancel("cancelled")
    assert (await ended(new, "cancelled"))["status"] == "CANCELLED"
    await attempts.close()
    last = await attempts.open("last", "1", lambda attempt: None)
    await ended(last, "run")
    assert attempts.seen == [("new", 1), ("new", 1), ("last", 2)]


async def test_a_blocked_run_of_the_same_version_does_not_spin(attempts):
    engine = await attempts.open("one", "1", lambda attempt: WorkBlocked("other code") if attempt < 3 else None)
    await engine.start(Work("run", b"{}", "work"))
    assert (await ended(engine, "run"))["recovery_attempts"] == 3
