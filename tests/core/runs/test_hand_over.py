"""A run that its caller leaves after a while is in the run store by then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nexus_core import BackendUnavailable, Caller, Invocation, hookimpl
from nexus_core.app import dispatch
from nexus_core.runs.memory import MemoryRunStore
from nexus_core.testing import isolated_nexus


class Kept(MemoryRunStore):
    """A store that is unavailable for a while."""

    name = "kept"
    is_away = False

    async def write(self, changes: Any) -> Any:
        if self.is_away:
            raise BackendUnavailable("It is away.", retry_after=1.0)
        return await super().write(changes)

    @hookimpl
    def nexus_register_run_stores(self, nexus: Any) -> list[Any]:
        return [self]


@pytest.fixture(name="started", params=["all", "background"])
async def started_fixture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(dispatch, "STORE_SECONDS", 0.01)
    store = Kept()
    nexus = isolated_nexus(store, run_store="kept", run_store_scope=request.param)
    nexus.gate = asyncio.Event()

    @nexus.workflow
    async def work(n: int = 0) -> int:
        await nexus.gate.wait()
        return n

    async with nexus:
        yield nexus, store
        nexus.gate.set()


async def test_a_run_that_is_left_is_stored(started: Any) -> None:
    nexus, store = started
    run = await nexus.invoke_within(Invocation("work", {"n": 5}), 0.01)
    state = await store.get(run.id)
    assert (state.status, state.record.params) == ("running", b'{"n":5}')
    nexus.gate.set()
    await run.wait()
    assert (await store.get(run.id)).result == b"5"


async def test_a_call_goes_on_while_the_store_is_away(started: Any) -> None:
    nexus, store = started
    store.is_away = True
    call = asyncio.create_task(nexus.invoke_within(Invocation("work", {}), 0.01))
    ended = asyncio.create_task(nexus.invoke_within(Invocation("work", {"n": 2}), 0.01))
    await asyncio.wait({call}, timeout=0.3)
    assert not call.done()
    store.is_away = False
    run = await call
    assert (await store.get(run.id)).status == "running"
    store.is_away = True
    nexus.gate.set()
    assert getattr(await ended, "value", 2) == 2


async def test_only_what_is_left_is_stored_where_so_asked(started: Any) -> None:
    nexus, store = started
    nexus.gate.set()
    result = await nexus.invoke("work")
    assert (await store.get(result.run_id) is None) is (nexus.options.run_store_scope == "background")
    assert not nexus._state.running.recorder._held
    assert (await (await nexus.view(Caller())).run(result.run_id)).status == "completed"
