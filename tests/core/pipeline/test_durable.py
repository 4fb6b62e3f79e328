"""Durable runs on an engine in memory: two platforms that share a run store, one of which may die."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from memory_engine import Gives, Journals, MemoryEngine

from nexus_core import (
    Caller,
    ConfigurationError,
    Context,
    Invocation,
    Nexus,
    Overloaded,
    Principal,
    Run,
    RunCancelled,
    RunStatus,
    WorkflowError,
    WorkflowTimeout,
)
from nexus_core.errors import BackendUnavailable, RunInterrupted
from nexus_core.runs.journal import StepFailed
from nexus_core.testing import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 20.0


OPTIONS: dict[str, Any] = {"run_store": "kept", "run_engine": "memory"}


@pytest.fixture(name="platform")
def platform_fixture(make: Any) -> Any:
    """Make a platform that shares journals with others."""

    def platform(journals: Journals, register: Callable[[Nexus], None], **options: Any) -> tuple[Nexus, MemoryEngine]:
        gives = Gives(journals)
        nexus = make(gives, **OPTIONS | options)
        register(nexus)
        return nexus, gives.engine

    return platform


async def test_a_durable_call_is_answered_like_any_other(platform: Any) -> None:
    def register(nexus: Nexus) -> None:
        @nexus.workflow(durable=True)
        async def add(context: Context, a: int, b: int) -> int:
            return await context.step("add", lambda: a + b)

        @nexus.workflow(durable=True)
        async def fail() -> None:
            raise WorkflowError("No luck.")

    nexus, _ = platform(Journals(), register)
    async with nexus:
        result = await nexus.invoke("add", {"a": 1, "b": 2})
        assert result.value == 3
        with pytest.raises(WorkflowError, match=r"No luck\."):
            await nexus.invoke("fail")
        me = await nexus.view(Caller())
        run = await me.run(result.run_id)
        assert (run.status, run.result.value if run.result else None) == (RunStatus.COMPLETED, 3)
        assert [event.type async for event in run.follow()] == [
            "workflow.queued", "workflow.started", "workflow.completed",
        ]  # fmt: skip
        assert [step.name for step in await me.steps(result.run_id)] == ["add"]


class Shop:
    """A workflow with steps, and what each of them has done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gates = {name: asyncio.Event() for name in ("reserve", "pay", "ship")}

    def register(self, nexus: Nexus) -> None:
        async def do(name: str) -> str:
            await self.gates[name].wait()
            self.done.append(name)
            return name.upper()

        @nexus.workflow(durable=True)
        async def order(context: Context, item: str) -> list[str]:
            context.output("begun")
            parts = [await context.step(name, do, name) for name in ("reserve", "pay")]
            context.emit("paid", item)
            return [item, *parts, await context.step("ship", do, "ship")]


async def test_a_run_goes_on_at_another_process_from_its_last_step(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    (one, _), (two, dies) = platform(journals, shop.register, run_work=False), platform(journals, shop.register)
    async with one:
        async with two:
            run = one.submit(Invocation("order", {"item": "tea"}, principal=Principal("ann")))
            shop.gates["reserve"].set()
            await eventually(lambda: shop.done == ["reserve"])
            await dies.die()
        three, _ = platform(journals, shop.register)
        async with three:
            shop.gates["pay"].set()
            shop.gates["ship"].set()
            with run.hold():
                result = await run.outcome()
            assert result.value == ["tea", "RESERVE", "PAY", "SHIP"]
            assert shop.done == ["reserve", "pay", "ship"]
            events = [(event.number, event.type, event.data) for event in run.events]
            assert events == [
                (1, "workflow.queued", None),
                (2, "workflow.started", None),
                (3, "workflow.output", {"value": "begun"}),
                (4, "workflow.queued", None),
                (5, "workflow.started", {"attempt": 2}),
                (6, "workflow.event", {"name": "paid", "value": "tea"}),
                (7, "workflow.completed", None),
            ]
            there = await (await three.view(Caller(principal=Principal("ann")))).run(run.id)
            assert [event.number async for event in there.follow(5)] == [6, 7]
            steps = await (await three.view(Caller(principal=Principal("ann")))).steps(run.id)
            assert [(step.number, step.name) for step in steps if step.outcome == "completed"] == [
                (1, "reserve"), (3, "pay"), (4, "ship"),
            ]  # fmt: skip


async def test_a_gateway_that_dies_loses_no_run(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    one, _ = platform(journals, shop.register, run_work=False)
    async with one:
        call = asyncio.create_task(one.invoke("order", {"item": "tea"}))
        await eventually(lambda: bool(journals.tasks))
    with pytest.raises(Overloaded, match="The run goes on at another one") as raised:
        await call
    two, _ = platform(journals, shop.register)
    async with two:
        for gate in shop.gates.values():
            gate.set()
        with (await (await two.view(Caller())).run(raised.value.run_id or "")).hold() as run:
            assert (await run.outcome()).value == ["tea", "RESERVE", "PAY", "SHIP"]


async def test_a_call_is_cancelled_wherever_the_work_is_done(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    (one, _), (two, _) = platform(journals, shop.register, run_work=False), platform(journals, shop.register)
    async with one, two:
        run = one.submit(Invocation("order", {"item": "tea"}))
        await eventually(lambda: bool(two.runs.running()))
        assert run.cancel()
        there = two.runs.get(run.id)
        assert await there.wait(SECONDS)
        assert there.status is RunStatus.CANCELLED
        with run.hold(), pytest.raises(RunCancelled):
            await run.outcome()
    assert shop.done == []


def _is_waiting(run: Run) -> bool:
    return run.status is RunStatus.WAITING


@pytest.mark.parametrize("dies", [False, True])
async def test_questions_are_asked_once(platform: Any, dies: bool) -> None:
    told: list[Any] = []

    def register(nexus: Nexus) -> None:
        @nexus.workflow(durable=True)
        async def work(context: Context) -> list[str]:
            first = await context.ask("First?", notify=told.append)
            return [first, await context.ask("Second?", notify=told.append)]

    journals = Journals()
    one, _ = platform(journals, register, run_work=False)
    async with one:
        workers = []
        for answers, name in enumerate(["one", "two"]):
            worker, engine = platform(journals, register)
            await worker.__aenter__()
            workers.append(worker)
            if not answers:
                run = one.submit(Invocation("work", {}))
                is_waiting = partial(_is_waiting, run)
            me = await one.view(Caller())
            async with asyncio.timeout(SECONDS):
                while not (page := await me.questions.page({}))["questions"]:
                    await asyncio.sleep(0)
            if dies:
                await engine.die()
                worker, engine = platform(journals, register)
                await worker.__aenter__()
                workers.append(worker)
            assert [each["number"] for each in page["questions"]] == [answers + 1]
            await eventually(is_waiting)
            await me.questions.answer(run.id, answers + 1, name)
        with run.hold():
            assert (await run.outcome()).value == ["one", "two"]
        assert [asked.question.number for asked in told] == [1, 2]
        for worker in workers:
            await worker.__aexit__(None, None, None)


async def test_what_steps_raise_is_recorded(platform: Any) -> None:
    class Own(Exception):
        pass

    errors = [ValueError("wrong"), WorkflowError("Not today."), Own("odd"), UnicodeDecodeError("utf-8", b"", 0, 1, "x")]
    calls: list[str] = []

    def register(nexus: Nexus) -> None:
        def fail(number: int) -> None:
            calls.append(str(number))
            raise errors[number]

        @nexus.workflow(durable=True)
        async def work(context: Context) -> list[str]:
            caught = []
            for number in range(len(errors)):
                try:
                    await context.step("fail", fail, number)
                except Exception as exc:
                    caught.append(f"{type(exc).__name__}: {exc}")
            try:
                await context.step("object", object)
            except TypeError:
                caught.append("no JSON")
            await context.ask("Go on?", bool)
            return caught

    journals = Journals()
    one, dies = platform(journals, register)
    async with one:
        run = one.submit(Invocation("work", {}))
        await run.settled(SECONDS)
        await dies.die()
        two, _ = platform(journals, register)
        async with two:
            me = await two.view(Caller())
            await me.questions.answer(run.id, 1, True)
            with (await me.run(run.id)).hold() as there:
                value = (await there.outcome()).value
            assert value == [
                "ValueError: wrong", "WorkflowError: Not today.", "StepFailed: Own: odd",
                "StepFailed: UnicodeDecodeError: 'utf-8' codec can't decode bytes in position 0-0: x", "no JSON",
            ]  # fmt: skip
    assert calls == ["0", "1", "2", "3"]
    assert issubclass(StepFailed, Exception)


async def test_sync_workflows_and_sleeps_are_durable(platform: Any) -> None:
    journals, calls = Journals(), []

    def register(nexus: Nexus) -> None:
        @nexus.workflow(durable=True)
        def work(context: Context) -> str:
            name = context.step_sync("name", lambda: calls.append(1) or "tea")
            context.sleep_sync(0.01)
            return name if context.ask_sync("Go on?", bool) else ""

    one, dies = platform(journals, register)
    async with one:
        run = one.submit(Invocation("work", {}))
        await run.settled(SECONDS)
        await dies.die()
        two, _ = platform(journals, register)
        async with two:
            me = await two.view(Caller())
            await me.questions.answer(run.id, 1, True)
            with (await me.run(run.id)).hold() as there:
                value = (await there.outcome()).value
            assert value == "tea"
    assert calls == [1]


async def test_the_deadline_is_that_of_the_call(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    one, _ = platform(journals, shop.register, run_work=False)
    async with one:
        run = one.submit(Invocation("order", {"item": "tea"}, timeout=0.05))
        await eventually(lambda: bool(journals.tasks))
        await asyncio.sleep(0.06)  # it passes while no process works on the run
        two, _ = platform(journals, shop.register)
        async with two:
            with run.hold(), pytest.raises(WorkflowTimeout):
                await run.outcome()


async def test_wrong_set_ups_are_refused(make: Any) -> None:
    async def work() -> int:
        return 1

    journals = Journals()
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {"durable": True}, 'run_engine must be set: the workflow "work" needs an engine'),
        ({"durable_workflows": "all"}, {}, "run_engine must be set: durable_workflows=all needs an engine"),
        ({"run_engine": "nosuch", "run_store": "kept"}, {}, "there is no engine 'nosuch' of durable runs, only memory"),
        ({"run_engine": "memory"}, {}, "needs a run store that processes share"),
    ]
    for options, metadata, message in cases:
        nexus = make(Gives(journals), **options)
        nexus.register("work", work, metadata)
        with pytest.raises(ConfigurationError, match=message):
            async with nexus:
                pass
    nexus = make(durable_workflows="none")
    nexus.register("work", work, {"durable": True})
    async with nexus:
        assert (await nexus.invoke("work")).value == 1
    with pytest.raises(ConfigurationError, match=r"metadata\['durable'\] must be True or False"):
        nexus.register("other", work, {"durable": "yes"})
    with pytest.raises(ConfigurationError, match="can't be used together"):
        nexus.register("other", work, {"durable": True, "serial": "caller"})


async def test_all_workflows_may_be_durable_but_some(platform: Any) -> None:
    journals = Journals()

    def register(nexus: Nexus) -> None:
        @nexus.workflow
        async def durable() -> int:
            return 1

        @nexus.workflow(durable=False)
        async def plain() -> int:
            return 2

    nexus, _ = platform(journals, register, durable_workflows="all")
    async with nexus:
        assert (await nexus.invoke("durable")).value == 1
        assert len(journals.tasks) == 1
        assert (await nexus.invoke("plain")).value == 2
        assert len(journals.tasks) == 1


async def test_a_process_that_comes_back_too_late_changes_nothing(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    (one, suspended), (two, _) = platform(journals, shop.register), platform(journals, shop.register)
    async with one:
        call = asyncio.create_task(one.invoke("order", {"item": "tea"}))
        await eventually(lambda: bool(suspended.pages))
        async with two:
            suspended.crash()
            await eventually(lambda: journals.attempts == dict.fromkeys(journals.tasks, 2))
            for gate in shop.gates.values():
                gate.set()
            assert (await call).value == ["tea", "RESERVE", "PAY", "SHIP"]
            assert shop.done.count("ship") == 1


async def test_a_run_that_ends_its_processes_is_given_up(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    gateway, _ = platform(journals, shop.register, run_work=False)
    workers = []
    async with gateway:
        call = asyncio.create_task(gateway.invoke("order", {"item": "tea"}))
        for deaths in range(4):  # the first one has come forward: it has put out something
            worker, engine = platform(journals, shop.register)
            workers.append(worker)
            await worker.__aenter__()
            await _has_started(journals, deaths + 1)
            engine.crash()
        last, _ = platform(journals, shop.register)
        workers.append(last)
        await last.__aenter__()
        with pytest.raises(RunInterrupted, match="3 processes in a row have ended while they worked on this run"):
            await call
        for gate in shop.gates.values():
            gate.set()
        for worker in workers:
            await worker.__aexit__(None, None, None)
    assert "ship" not in shop.done


async def _has_started(journals: Journals, times: int) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            events = [event for run_id in journals.tasks for event in await journals.store.events(run_id)]
            if [event.to_dict()["type"] for event in events].count("workflow.started") == times:
                return
            await asyncio.sleep(0)


async def test_an_engine_that_is_away_refuses_the_call(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    one, engine = platform(journals, shop.register)
    async with one:
        engine.is_away = True
        run = one.submit(Invocation("order", {"item": "tea"}))
        with run.hold(), pytest.raises(BackendUnavailable, match="The engine is away"):
            await run.outcome()
        state = await journals.store.get(run.id)
        assert state is not None
        assert state.status is RunStatus.FAILED


async def test_runs_that_no_process_can_end_are_ended(platform: Any) -> None:
    shop, journals = Shop(), Journals()
    one, _ = platform(journals, shop.register, run_work=False)
    async with one:
        late = one.submit(Invocation("order", {"item": "tea"}, timeout=3.0))
        lost = one.submit(Invocation("order", {"item": "tea"}))
        await eventually(lambda: len(journals.tasks) == 2)
        del journals.tasks[lost.id]
        durable = one._state.running.durable  # time passes here alone
        await durable.sweep(time.time())
        assert [late.ended, lost.ended] == [False, False]
        await durable.sweep(time.time() + 60)
        with late.hold(), pytest.raises(WorkflowTimeout):
            await late.outcome()
        with lost.hold(), pytest.raises(RunInterrupted, match="before the run was started"):
            await lost.outcome()
