"""Runs of a platform are in its store as they were: most are stored as a whole, after they have ended."""

from __future__ import annotations

import asyncio

import pytest
from nexus_runs.plugin import RunsPlugin

from nexus_core import Context, Invocation, Nexus, NexusError
from nexus_core.runs.contract.base import reached, until
from nexus_core.runs.record import RunChange


@pytest.fixture
async def started(place):
    options = {"runs_sqlite_path": place.argument}
    if place.kind == "postgres":
        url, _, schema = place.argument.partition("#")
        options = {"runs_postgres_url": url, "runs_postgres_schema": schema}
    nexus = Nexus(discover=False, plugins=[RunsPlugin], run_store=place.kind, **options)
    nexus.gate = asyncio.Event()

    @nexus.workflow
    async def work(context: Context, kind: str = "") -> str:
        context.progress(1, 2) if kind == "progress" else None
        if kind == "step":
            await context.step("first", str, 1)
        if kind == "wait":
            await nexus.gate.wait()
        if kind == "fail":
            raise ValueError("no")
        return kind

    nexus.heard = []
    nexus._state.events.listen(nexus.heard.append)
    async with nexus:
        yield nexus, nexus._state.running.recorder.store


def heard(nexus, run_id):
    events = [event.without_result().to_dict() for event in nexus.heard if event.number]
    return [event for event in events if event["run_id"] == run_id]


async def stored(store, run_id):
    state = None

    async def has_ended():
        nonlocal state
        state = await store.get(run_id)
        return state is not None and state.has_ended

    await reached(has_ended)
    return state, [event.to_dict() for event in await store.events(run_id)]


@pytest.mark.parametrize("kind", ["", "progress", "step"])
async def test_a_call_that_succeeds(started, kind):
    nexus, store = started
    result = await nexus.invoke("work", {"kind": kind})
    state, events = await stored(store, result.run_id)
    assert events == heard(nexus, result.run_id)
    assert (state.result, state.duration) == (result.json, result.duration)
    assert [step.name for step in await store.steps(result.run_id)] == (["first"] if kind == "step" else [])


async def test_a_call_that_fails(started):
    nexus, store = started
    with pytest.raises(NexusError) as raised:
        await nexus.invoke("work", {"kind": "fail"})
    state, events = await stored(store, raised.value.run_id)
    assert events == heard(nexus, raised.value.run_id)
    assert state.problem == events[-1]["error"]


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_call_that_takes_longer_is_stored_when_it_has_begun(started, is_cancelled):
    nexus, store = started
    call = asyncio.create_task(nexus.invoke("work", {"kind": "wait"}))
    await until(lambda: nexus._state.runs._running)
    (run,) = nexus._state.runs._running.values()

    async def has_begun():
        return await store.get(run.id)

    await reached(has_begun)
    assert [event.to_dict() for event in await store.events(run.id)] == heard(nexus, run.id)
    call.cancel() if is_cancelled else nexus.gate.set()
    await asyncio.wait({call})
    state, events = await stored(store, run.id)
    assert events == heard(nexus, run.id)
    assert str(state.status) == ("cancelled" if is_cancelled else "completed")


async def test_a_run_in_the_background(started):
    nexus, store = started
    with nexus.submit(Invocation("work", {"kind": "progress"})).hold() as run:
        await run.outcome()
    _, events = await stored(store, run.id)
    assert events == heard(nexus, run.id)


async def test_a_call_that_has_ended_is_one_change(started, monkeypatch):
    nexus, store = started
    written: list[RunChange] = []
    monkeypatch.setattr(store, "write_later", written.append)
    await nexus.invoke("work")
    (change,) = written
    assert change.is_whole
