"""Equal calls at the same time: one of them runs, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from nexus_core import (
    CircuitOpen,
    Invocation,
    Principal,
    RunCancelled,
    Stage,
    WorkflowError,
    WorkflowFailed,
    WorkflowTimeout,
    hookimpl,
)
from nexus_core.testing import eventually, stage_of


class Gate:
    """A workflow that waits until it is let go, or told to fail."""

    def __init__(self, nexus, **metadata):
        self.began, self.ended = [], []
        self.open = asyncio.Event()
        self.error = None

        async def gated(n: int = 0) -> int:
            self.began.append(n)
            try:
                await self.open.wait()
                if self.error is not None:
                    raise self.error
                return len(self.began)
            finally:
                self.ended.append(n)

        nexus.register("gated", gated, metadata)


@pytest.fixture(name="gate")
async def gate_fixture(start):
    nexus = await start()
    gate = Gate(nexus)
    gate.nexus = nexus
    return gate


def gated(**options):
    return Invocation("gated", {}, **options)


async def turns(count=20):
    """Let everything that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def start_many(gate, count, **options):
    tasks = [asyncio.create_task(gate.nexus.invoke(gated(**options))) for _ in range(count)]
    await eventually(lambda: gate.began)
    await turns()
    return tasks


def flights(nexus):
    stage = stage_of(nexus, Stage.CACHE)
    return stage.in_flight


async def test_a_hundred_equal_misses_run_once(gate):
    tasks = await start_many(gate, 100)
    gate.open.set()
    answers = await asyncio.gather(*tasks)
    assert len(gate.began) == 1
    assert {each.value for each in answers} == {1}
    assert len({each.run_id for each in answers}) == 1
    assert sorted(each.cached for each in answers) == [False] + [True] * 99
    assert (await gate.nexus.invoke(gated())).cached
    assert not flights(gate.nexus)


async def test_different_callers_run_side_by_side(gate):
    tasks = [asyncio.create_task(gate.nexus.invoke(gated(principal=Principal(who)))) for who in "abab"]
    await eventually(lambda: len(gate.began) == 2)
    await turns()
    gate.open.set()
    assert [(await task).cached for task in tasks] == [False, False, True, True]
    assert len(gate.began) == 2


@pytest.mark.parametrize("error", [WorkflowError("The order is empty."), RuntimeError("secret")])
async def test_those_who_waited_for_a_run_that_fails_get_its_error_and_the_next_one_runs(gate, error):
    gate.error = error
    tasks = await start_many(gate, 10)
    gate.open.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(gate.began) == 1
    assert {type(each) for each in errors} == {type(errors[0])}
    assert len({id(each) for each in errors}) == 10, "each caller has an error of its own to change"
    assert all(each.problem() == errors[0].problem() for each in errors)
    assert all(isinstance(each, WorkflowFailed) for each in errors)
    gate.error = None
    assert (await gate.nexus.invoke(gated())).value == 2
    assert not flights(gate.nexus)


async def test_when_the_first_caller_leaves_one_of_the_others_takes_over(gate):
    tasks = await start_many(gate, 10)
    for number in range(3):
        tasks[number].cancel()
        await eventually(lambda number=number: len(gate.began) == number + 2)
        await turns()
    gate.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in answers[:3]] == [asyncio.CancelledError] * 3
    assert {each.value for each in answers[3:]} == {4}
    assert len(gate.began) == len(gate.ended) == 4


async def test_when_the_first_run_is_cancelled_one_of_the_others_takes_over(gate):
    run = gate.nexus.submit(gated())
    await eventually(lambda: gate.began)
    task = asyncio.create_task(gate.nexus.invoke(gated()))
    await turns()
    run.cancel()
    await eventually(lambda: len(gate.began) == 2)
    gate.open.set()
    assert (await task).value == 2
    with pytest.raises(RunCancelled):
        await run.outcome()


async def test_when_a_follower_leaves_nobody_notices(gate):
    tasks = await start_many(gate, 5)
    for task in tasks[2:4]:
        task.cancel()
    await turns()
    gate.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(each, "value", None) for each in answers] == [1, 1, None, None, 1]
    assert len(gate.began) == 1


async def test_all_leave(gate):
    tasks = await start_many(gate, 5)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await turns()
    assert not flights(gate.nexus)
    assert len(gate.began) == len(gate.ended)


async def test_a_first_caller_with_little_time_fails_alone(gate):
    first = asyncio.create_task(gate.nexus.invoke(gated(timeout=0.05)))
    await eventually(lambda: gate.began)
    second = asyncio.create_task(gate.nexus.invoke(gated()))
    with pytest.raises(WorkflowTimeout):
        await first
    await eventually(lambda: len(gate.began) == 2)
    gate.open.set()
    assert (await second).value == 2


async def test_a_time_limit_of_the_workflows_own_ends_them_all(start):
    nexus = await start()
    gate = Gate(nexus, timeout=0.1)
    gate.nexus = nexus
    tasks = await start_many(gate, 5)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in errors] == [WorkflowTimeout] * 5
    assert len(gate.began) == 1


async def test_nobody_waits_for_longer_than_it_said(gate):
    (first,) = await start_many(gate, 1)
    begin = time.monotonic()
    with pytest.raises(WorkflowTimeout, match=r"within 0\.1 seconds"):
        await gate.nexus.invoke(gated(timeout=0.1))
    assert 0.09 < time.monotonic() - begin < 10
    gate.open.set()
    assert (await first).value == 1


class Limits:
    """Notes the time limits of the calls that the cache passes on."""

    stage = Stage.BREAKER

    def __init__(self):
        self.seen = []

    async def __call__(self, invocation, call_next):
        self.seen.append(invocation.timeout)
        return await call_next(invocation)

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]


async def test_who_takes_over_has_only_its_time_left(start):
    limits = Limits()
    nexus = await start(limits)
    gate = Gate(nexus)
    first = asyncio.create_task(nexus.invoke(gated()))
    await eventually(lambda: gate.began)
    second = asyncio.create_task(nexus.invoke(gated(timeout=60)))
    await eventually(lambda: stage_of(nexus, Stage.CACHE).in_flight)
    await turns()
    begin = time.monotonic()
    await asyncio.sleep(0.1)
    first.cancel()
    await eventually(lambda: len(gate.began) == 2)
    waited = time.monotonic() - begin
    gate.open.set()
    assert (await second).value == 2
    assert limits.seen[0] is None
    assert 60 - 10 - waited < limits.seen[1] <= 60 - 0.1  # not all of its time again


async def test_what_another_policy_refuses_concerns_its_caller_alone(start):
    class Breaker:
        stage = Stage.BREAKER

        def __init__(self):
            self.refused = 0

        async def __call__(self, invocation, call_next):
            await asyncio.sleep(0.01)
            if self.refused < 2:
                self.refused += 1
                raise CircuitOpen("Not now.", retry_after=1)
            return await call_next(invocation)

        @hookimpl
        def nexus_register_interceptors(self, nexus):
            return [self]

    nexus = await start(Breaker())
    answers = await asyncio.gather(*(nexus.invoke("count") for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in answers[:2]] == [CircuitOpen] * 2
    assert [each.value["run"] for each in answers[2:]] == [1] * 3
    assert len(nexus.ran) == 1


async def test_a_run_that_waits_for_another_can_be_found_and_cancelled(gate):
    (first,) = await start_many(gate, 1)
    ada = Invocation("gated", {})
    waiting, given_up = gate.nexus.submit(ada), gate.nexus.submit(gated())
    async with asyncio.timeout(5):
        await asyncio.gather(waiting.started_or_rejected(), given_up.started_or_rejected())
    assert {run.id for run in gate.nexus.runs.find(status="running")} >= {waiting.id, given_up.id}
    given_up.cancel()
    with pytest.raises(RunCancelled):
        await given_up.outcome()
    gate.open.set()
    assert ((await waiting.outcome()).value, (await first).value) == (1, 1)
    await eventually(lambda: waiting.done)
    assert [event.type for event in waiting.events] == ["workflow.started", "workflow.completed"]
    assert len(gate.began) == 1


async def test_a_run_that_has_waited_and_takes_over_starts_once(gate):
    (first,) = await start_many(gate, 1)
    waiting = gate.nexus.submit(gated())
    await waiting.started_or_rejected()
    first.cancel()
    await eventually(lambda: len(gate.began) == 2)
    gate.open.set()
    assert (await waiting.outcome()).cached is False
    assert [event.type for event in waiting.events] == ["workflow.started", "workflow.completed"]


async def test_each_call_that_waits_is_a_run_of_its_own(gate):
    tasks = await start_many(gate, 3)
    assert len(gate.nexus.runs.find(status="running")) == 3
    gate.open.set()
    await asyncio.gather(*tasks)
    runs = gate.nexus.runs.find(workflow="gated")
    assert [str(run.status) for run in runs] == ["completed"] * 3
    assert gate.nexus.runs.running() == []


async def test_a_run_that_is_cancelled_while_it_waits_ends_at_once(gate):
    (first,) = await start_many(gate, 1)
    (leader,) = gate.nexus.runs.running()
    second = asyncio.create_task(gate.nexus.invoke(gated()))
    await eventually(lambda: len(gate.nexus.runs.running()) == 2)
    (waiting,) = [run for run in gate.nexus.runs.running() if run is not leader]
    waiting.cancel()
    with pytest.raises(RunCancelled):
        await second
    assert [event.type for event in waiting.events] == ["workflow.started", "workflow.cancelled"]
    gate.open.set()
    assert (await first).value == 1


async def test_a_platform_that_stops_lets_nobody_take_over(make):
    nexus = make(shutdown_grace=0.05)
    async with nexus:
        gate = Gate(nexus)
        gate.nexus = nexus
        tasks = await start_many(gate, 4)
        begin = time.monotonic()
    assert time.monotonic() - begin < 10
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in errors] == [RunCancelled] * 4
    assert len(gate.began) == len(gate.ended) == 1


async def test_those_who_wait_hold_no_thread_and_leave_none(start):
    nexus = await start()
    begun = []

    @nexus.workflow
    def slow() -> int:
        begun.append(1)
        time.sleep(0.2)
        return 1

    answers = await asyncio.gather(*(nexus.invoke("slow") for _ in range(50)))
    assert {each.value for each in answers} == {1}
    assert len(begun) == 1
