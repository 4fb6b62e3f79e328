"""Runs whose workflow's code changes while they are at work: they wait for code that fits, are forked or cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from memory_engine import Gives, Journals, MemoryEngine, Pages

from nexus_core import Caller, Context, Invocation, Nexus, Run, RunCancelled, RunStatus, WorkflowTimeout
from nexus_core.errors import Conflict, RunNotFound, ValidationError
from nexus_core.runs.work import WorkBlocked
from nexus_core.testing import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.runs.work import Beginning, Work, Worker

SECONDS = 20.0


class VersionedEngine(MemoryEngine):
    """An engine that gives blocked work only to processes with the version that it was begun with."""

    def __init__(self, journals: Journals) -> None:
        super().__init__(journals)
        self._offers: Worker | None = None
        shared = vars(journals).setdefault("versioned", ({}, {}, set()))
        self.works, self.versions, self.blocked = shared

    async def open(self, executor: str, worker: Worker | None) -> None:
        self._offers = worker
        await super().open(executor, worker)

    async def start(self, work: Work, beginning: Beginning | None = None) -> None:
        self.works.setdefault(work.run_id, work)
        if beginning is not None and work.run_id not in self.journals.outcomes:
            outcomes = self.journals.outcomes[beginning.run_id]
            self.journals.outcomes[work.run_id] = outcomes[: beginning.places]
        await super().start(work, beginning)

    def look(self) -> None:
        for run_id in self.blocked & self.journals.taken if self._worker else ():
            if self._version(run_id) == self.versions[run_id]:
                self.blocked.discard(run_id)
                self.journals.taken.discard(run_id)
        super().look()

    def _version(self, run_id: str) -> str | None:
        assert self._offers is not None
        offer = self._offers.offers().get(self.works[run_id].workflow)
        return None if offer is None else offer.version

    async def _work(self, run_id: str) -> None:
        self.versions.setdefault(run_id, self._version(run_id) or "")
        try:
            await super()._work(run_id)
        except WorkBlocked:
            self.blocked.add(run_id)
            del self._tasks[run_id]

    async def task(self, run_id: str) -> bytes | None:
        return self.journals.tasks.get(run_id)

    async def places(self, run_id: str) -> list[str]:
        return [name for name, _ in self.journals.outcomes.get(run_id, ())]


class GivesVersioned(Gives):
    """A plugin with a run store and that engine."""

    def __init__(self, journals: Journals) -> None:
        super().__init__(journals)
        self.engine = VersionedEngine(journals)


@pytest.fixture(name="platform")
def platform_fixture(make: Any) -> Any:
    """Make a platform that shares journals with others."""

    def platform(
        journals: Journals, register: Callable[[Nexus], None], **options: Any
    ) -> tuple[Nexus, VersionedEngine]:
        gives = GivesVersioned(journals)
        nexus = make(gives, **{"run_store": "kept", "run_engine": "memory"} | options)
        register(nexus)
        return nexus, gives.engine

    return platform


class Shop:
    """Deployments of one workflow: its steps wait at gates, and note that they were done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def version(self, name: str, *steps: str, swallows: bool = False, is_sync: bool = False) -> Callable[..., None]:
        """Return what registers a version of the workflow with these steps."""

        async def do(step: str) -> str:
            await self.gates.setdefault(step, asyncio.Event()).wait()
            self.done.append(step)
            return step.upper()

        async def order(context: Context, item: str) -> list[Any]:
            parts = [item]
            for step in steps:
                try:
                    parts.append(await context.step(step, do, step))
                except Exception:
                    if not swallows:
                        raise
                    parts.append("swallowed")
            return parts

        def order_sync(context: Context, item: str) -> list[Any]:
            parts = [item]
            for step in steps:
                try:
                    parts.append(context.step_sync(step, do, step))
                except Exception:
                    if not swallows:
                        raise
                    parts.append("swallowed")
            return parts

        def register(nexus: Nexus) -> None:
            nexus.register("order", order_sync if is_sync else order, {"durable": True, "version": name})

        return register

    def open(self, *steps: str) -> None:
        for step in steps:
            self.gates.setdefault(step, asyncio.Event()).set()


async def _is(nexus: Nexus, run_id: str, status: RunStatus) -> dict[str, Any]:
    """Return a run as a process shows it, once it has a status."""
    until = time.monotonic() + SECONDS
    shown: dict[str, Any] = {}
    while shown.get("status") != status:
        assert time.monotonic() < until, shown
        await asyncio.sleep(0.01)
        with contextlib.suppress(RunNotFound):  # it is about to be accepted
            shown = (await (await nexus.view(Caller())).run(run_id)).to_dict()
    return shown


async def _block(platform: Any, shop: Shop, gate: Nexus, journals: Journals, **how: Any) -> Run:
    """Begin a run with one version of the code, and let a worker with another one come upon it."""
    old, engine = platform(journals, shop.version("1", "reserve", "pay", "ship"))
    async with old:
        run = gate.submit(Invocation("order", {"item": "tea"}))
        shop.open("reserve", "pay")
        await eventually(lambda: shop.done == ["reserve", "pay"])
        await eventually(lambda: "ship" in shop.gates)
        await engine.die()
    return run


@pytest.mark.parametrize("is_sync", [False, True])
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_run_waits_for_code_that_fits_it(platform: Any, swallows: bool, is_sync: bool) -> None:
    shop, journals = Shop(), Journals()
    gate, _ = platform(journals, shop.version("1", "reserve", "pay", "ship"), run_work=False)
    async with gate:
        run = await _block(platform, shop, gate, journals)
        new, _ = platform(journals, shop.version("2", "reserve", "thank", "ship", swallows=swallows, is_sync=is_sync))
        shop.open("thank")
        async with new:
            for nexus in (gate, new):
                shown = await _is(nexus, run.id, RunStatus.BLOCKED)
                assert shown["error"]["code"] == "code_changed"
                assert shown["error"]["detail"] == (
                    "Code changed: step 2 is 'thank', and was 'pay' when the run began."
                )
                assert shown["version"].startswith("1+")
            assert [event.type for event in run.events][-2:] == ["workflow.started", "workflow.blocked"]
            assert not run.done
            shop.open("ship")
            old, _ = platform(journals, shop.version("1", "reserve", "pay", "ship"))
            async with old:
                with run.hold():
                    assert (await asyncio.wait_for(run.outcome(), SECONDS)).value == ["tea", "RESERVE", "PAY", "SHIP"]
                shown = await _is(new, run.id, RunStatus.COMPLETED)
                assert "error" not in shown
    assert shop.done == ["reserve", "pay", "ship"]


async def test_a_blocked_run_is_cancelled(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    gate, _ = platform(journals, shop.version("1", "reserve", "pay", "ship"), run_work=False)
    async with gate:
        run = await _block(platform, shop, gate, journals)
        new, _ = platform(journals, shop.version("2", "thank"))
        async with new:
            await _is(gate, run.id, RunStatus.BLOCKED)
            view = await new.view(Caller())
            assert await view.cancel(await view.run(run.id))
            with run.hold(), pytest.raises(RunCancelled):
                await asyncio.wait_for(run.outcome(), SECONDS)
            await _is(new, run.id, RunStatus.CANCELLED)
    assert run.id in journals.ended


async def test_a_blocked_run_ends_at_its_deadline(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    options = {"workflow_timeout": 30.0}
    gate, _ = platform(journals, shop.version("1", "reserve", "pay", "ship"), run_work=False, **options)
    async with gate:
        run = await _block(platform, shop, gate, journals)
        new, _ = platform(journals, shop.version("2", "thank"))
        async with new:
            await _is(gate, run.id, RunStatus.BLOCKED)
            durable = gate._state.running.durable  # type: ignore[union-attr]
            assert durable is not None
            await durable.sweep(time.time() + 40.0)
            with run.hold(), pytest.raises(WorkflowTimeout):
                await asyncio.wait_for(run.outcome(), SECONDS)


async def test_a_run_without_steps_begins_again_with_any_code(platform: Any) -> None:
    journals, begun = Journals(), asyncio.Event()

    def first(nexus: Nexus) -> None:
        @nexus.workflow(name="work", durable=True)
        async def work() -> str:
            begun.set()
            await asyncio.Event().wait()
            return "first"

    def second(nexus: Nexus) -> None:
        @nexus.workflow(name="work", durable=True)
        async def work() -> str:
            return "second"

    gate, _ = platform(journals, first, run_work=False)
    async with gate:
        old, engine = platform(journals, first)
        async with old:
            run = gate.submit(Invocation("work", {}))
            await begun.wait()
            await engine.die()
        new, _ = platform(journals, second)
        async with new:
            with run.hold():
                assert (await asyncio.wait_for(run.outcome(), SECONDS)).value == "second"


async def test_a_run_waits_for_code_that_takes_its_parameters(platform: Any) -> None:
    journals = Journals()

    def old(nexus: Nexus) -> None:
        @nexus.workflow(name="work", durable=True)
        async def work(item: str) -> str:
            return item

    def new(nexus: Nexus) -> None:
        @nexus.workflow(name="work", durable=True)
        async def work(item: int) -> int:
            return item

    gate, _ = platform(journals, old, run_work=False)
    worker, _ = platform(journals, new)
    async with gate, worker:
        run = gate.submit(Invocation("work", {"item": "tea"}))
        shown = await _is(gate, run.id, RunStatus.BLOCKED)
        assert shown["error"]["detail"] == "Code changed: the parameters of the run no longer fit."
        assert shown["error"]["errors"][0]["pointer"] == "/item"


async def test_a_run_waits_for_a_worker_that_has_its_workflow(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    gate, _ = platform(journals, shop.version("1", "reserve"), run_work=False)
    worker, engine = platform(journals, lambda _: None)
    async with gate, worker:
        run = gate.submit(Invocation("order", {"item": "tea"}))
        await eventually(lambda: run.id in journals.tasks)
        journals.attempts[run.id] = 1
        with pytest.raises(WorkBlocked):  # engines give no such work: its workflow was unregistered just then
            await engine._offers.perform(run.id, journals.tasks[run.id], Pages(journals, run.id))
        shown = await _is(gate, run.id, RunStatus.BLOCKED)
        assert 'has no workflow "order"' in shown["error"]["detail"]


async def test_a_run_is_forked_from_a_step(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    gate, _ = platform(journals, shop.version("2", "reserve", "thank", "ship"), run_work=False)
    async with gate:
        run = await _block(platform, shop, gate, journals)
        with pytest.raises(Conflict, match="a run is repeated once it has ended"):
            await gate.fork(run.id, "pay")
        worker, _ = platform(journals, shop.version("2", "reserve", "thank", "ship"))
        shop.open("thank", "ship")
        async with worker:
            await _is(gate, run.id, RunStatus.BLOCKED)
            with pytest.raises(
                ValidationError, match=r'no step "pya". Did you mean "pay"\? Its steps: 1 reserve, 2 pay'
            ):
                await gate.fork(run.id, "pya")
            forked = await gate.fork(run.id, "pay", {"item": "coffee"})
            assert (await asyncio.wait_for(forked.outcome(), SECONDS)).value == ["coffee", "RESERVE", "THANK", "SHIP"]
            assert (await _is(gate, forked.id, RunStatus.COMPLETED))["parent"] == run.id
            await _is(worker, run.id, RunStatus.CANCELLED)
            again = await worker.fork(run.id, 1)
            assert (await asyncio.wait_for(again.outcome(), SECONDS)).value == ["tea", "RESERVE", "THANK", "SHIP"]
            retried = await worker.retry(run.id)
            assert (await asyncio.wait_for(retried.outcome(), SECONDS)).value == ["tea", "RESERVE", "THANK", "SHIP"]
    assert shop.done.count("reserve") == 3
