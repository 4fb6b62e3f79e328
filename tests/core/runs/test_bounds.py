"""What a run may take of the server, and that nothing of it is left when it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import decimal
import gc
import math
import random
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import (
    ConfigurationError,
    Context,
    Invocation,
    MalformedRequest,
    NexusError,
    Stage,
    Workflow,
    WorkflowError,
    WorkflowFailed,
)
from nexus_core.runs.context import EVENT_BYTES, MESSAGE_CHARACTERS
from nexus_core.runs.status import EVENTS_KEPT
from nexus_core.testing import eventually, stage_of
from nexus_core.workflows.functions import BREATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LIMIT = 6


def register_everything(nexus: Any) -> list[str]:
    """Register workflows of each kind, well-behaved and not; each takes about ``n`` seconds. Return their names."""

    @nexus.workflow
    async def waits(n: float) -> None:
        await asyncio.sleep(n)

    @nexus.workflow
    async def fails(n: float) -> None:
        await asyncio.sleep(n)
        raise ValueError

    @nexus.workflow
    async def ignores_its_cancellation(n: float) -> None:
        end = time.monotonic() + n
        while time.monotonic() < end:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    @nexus.workflow
    async def streams(n: float) -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(n / 5)
            yield number

    @nexus.workflow
    def blocks(n: float) -> None:
        time.sleep(n)

    @nexus.workflow
    def asks(n: float, context: Context) -> None:
        end = time.monotonic() + n
        while time.monotonic() < end and not context.cancelled:
            time.sleep(0.001)

    @nexus.workflow
    def streams_in_a_thread(n: float) -> Iterator[int]:
        for number in range(5):
            time.sleep(n / 5)
            yield number

    return [*nexus.list_workflows(), "nothing"]


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_to_calls_every_place_is_given_back(make: Any, seed: int) -> None:
    choose = random.Random(seed)
    nexus = make(max_concurrent_workflows=LIMIT, workflow_timeout=0.2, shutdown_grace=1)
    names = register_everything(nexus)
    loop = asyncio.get_running_loop()
    calls: list[asyncio.Task[Any]] = []
    async with nexus:
        admission = stage_of(nexus, Stage.ADMIT)
        for _ in range(300):
            name, seconds = choose.choice(names), choose.choice([0, 0.001, 0.02, 0.1, 0.3])
            if choose.random() < 0.5:
                run = nexus.submit(Invocation(name, {"n": seconds}, timeout=choose.choice([None, 0.01, 0.1])))
                cancel: Any = run.cancel
                calls.append(asyncio.create_task(run.wait()))
            else:
                calls.append(asyncio.create_task(nexus.invoke(name, {"n": seconds})))
                cancel = calls[-1].cancel
            if choose.random() < 0.4:
                loop.call_later(choose.random() * 0.05, cancel)
            assert 0 <= admission.in_use <= LIMIT
            if choose.random() < 0.5:
                await asyncio.sleep(choose.random() * 0.01)
        await asyncio.wait(calls)
        async with asyncio.timeout(5):
            while admission.in_use:
                await asyncio.sleep(0.01)
        assert nexus.runs.running() == []
        assert not nexus.timers.pending
    for call in calls:
        assert call.cancelled() or call.exception() is None or isinstance(call.exception(), NexusError)
    for run in nexus.runs.find(limit=1000):
        assert [event.is_terminal for event in run.events].count(True) == 1
        assert run.events[-1].is_terminal
        assert run.status in ("completed", "failed", "cancelled")


async def told(nexus: Any, tell: Any) -> tuple[Any, list[Any]]:
    async def work(context: Context) -> None:
        tell(context)

    nexus.register("work", work, replace=True)
    run = nexus.submit(Invocation("work", {}))
    return run, [event async for event in run.follow()]


async def test_events_kept_are_bounded_in_number_and_size(make: Any) -> None:
    nexus = make()

    def tell(context: Context) -> None:
        for number in range(1000):
            context.emit("step", number)
            context.progress(number)
        with pytest.raises(ValueError, match=str(EVENT_BYTES)):
            context.emit("big", "x" * EVENT_BYTES)

    run, events = await told(nexus, tell)
    kept = EVENTS_KEPT["workflow.event"]
    assert run.status == "completed"
    assert [e.data["value"] for e in events if e.type == "workflow.event"] == list(range(1000 - kept, 1000))
    assert [e.data["done"] for e in events if e.type == "workflow.progress"] == list(range(1000 - kept, 1000))


async def test_output_kept_is_bounded_and_followers_miss_nothing(make: Any) -> None:
    nexus = make()
    items = 3 * EVENTS_KEPT["workflow.output"]

    @nexus.workflow
    async def count() -> AsyncIterator[int]:
        for number in range(items):
            yield number
            if number % 100 == 0:
                await asyncio.sleep(0)

    run = nexus.submit(Invocation("count", {}))
    seen = [event.data["value"] async for event in run.follow() if event.type == "workflow.output"]
    assert seen == list(range(items))
    late = [event async for event in run.follow()]
    assert len(late) == EVENTS_KEPT["workflow.output"] + 2
    assert [event.number for event in late] == sorted(event.number for event in late)
    assert late[-1].result.value == seen


async def test_following_costs_what_is_new_and_not_what_there_was(make: Any) -> None:
    run, events = await told(make(), lambda context: [context.output(number) for number in range(9_000)])
    compared = 0

    class Counted(int):
        def __ge__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return int(self) >= int(other)  # type: ignore[call-overload]

    assert [event.number for event in run.events_after(Counted(events[-3].number))] == [e.number for e in events[-2:]]
    assert 0 < compared < 10


@pytest.mark.parametrize("keeps", ["result", "output", "events"])
async def test_history_holds_no_more_bytes_than_allowed(make: Any, keeps: str) -> None:
    nexus = make(run_history_bytes=1_000_000, run_history=100)
    runs = []

    @nexus.workflow
    async def work(context: Context) -> str:
        if keeps == "events":
            for _ in range(10):
                context.emit("step", "x" * 20_000)
        elif keeps == "output":
            for _ in range(400):
                context.output(1)
        return "x" * 200_000 if keeps == "result" else ""

    async with nexus:
        for _ in range(30):
            run = nexus.submit(Invocation("work", {}))
            await run.wait()
            await eventually(lambda: not nexus.runs.running())
            runs.append(run)
        kept = [run for run in runs if len(run.events) > 2 or run.result is not None]
        assert 3 <= len(kept) <= 5
        assert kept == runs[-len(kept) :]
        assert 0 <= nexus.runs.kept_bytes <= 1_000_000
        await nexus.invoke("work")
        assert len(nexus.runs.find()[0].events) == 2  # its caller has had it all


class Large(dict[str, Any]):
    """What can be watched as it goes."""


@pytest.mark.parametrize("ends", ["returns", "fails", "times_out"])
@pytest.mark.parametrize("call", ["invoke", "submit", "with a key"])
async def test_an_ended_run_keeps_nothing_of_its_workflows_own_objects(make: Any, ends: str, call: str) -> None:
    nexus = make(workflow_timeout=0.05 if ends == "times_out" else 10)
    made: list[weakref.ref[Large]] = []

    @nexus.workflow
    async def works() -> Any:
        large = Large(text="x" * 1000)
        made.append(weakref.ref(large))
        if ends == "fails":
            raise WorkflowError("no")
        if ends == "times_out":
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await asyncio.sleep(0)  # it returns all the same, when nobody waits any more
        return large

    async with nexus:
        if call == "submit":
            await nexus.submit(Invocation("works", {})).wait()
        else:
            with contextlib.suppress(NexusError):
                await nexus.invoke(Invocation("works", {}, idempotency_key="k" if call == "with a key" else None))
        [run] = nexus.runs.find()
        assert run.done
        await eventually(lambda: gc.collect() >= 0 and made[0]() is None)
        if ends == "fails":
            for _ in range(2):
                with pytest.raises(WorkflowError):
                    await run.outcome()
            assert run.error is not None
            assert run.error.__traceback__ is None


async def test_what_a_run_says_after_its_end_is_not_counted(make: Any) -> None:
    nexus = make()
    contexts: list[Context] = []

    @nexus.workflow
    async def work(context: Context) -> None:
        contexts.append(context)

    await nexus.invoke("work")
    contexts[0].output("x" * 1000)
    assert contexts[0].run.output_bytes == 0
    assert nexus.runs.kept_bytes == 0


async def test_a_listener_may_end_itself(make: Any) -> None:
    nexus = make()
    seen: list[str] = []

    def once(event: Any) -> None:
        seen.append("once")
        end()

    end = nexus.events.listen(once)
    nexus.events.listen(lambda event: seen.append("always"))
    nexus.register("one", lambda: 1)
    nexus.register("two", lambda: 2)
    assert seen == ["once", "always", "always"]


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -1, 0, 1e300])
async def test_a_callers_time_limit_must_be_one(make: Any, timeout: float) -> None:
    nexus = make()
    nexus.register("one", lambda: 1)
    with pytest.raises(MalformedRequest, match="timeout must be a number of seconds"):
        await nexus.invoke(Invocation("one", {}, timeout=timeout))


@pytest.mark.parametrize("option", ["plugin_timeout", "workflow_timeout", "body_timeout", "shutdown_grace"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e300", "-1"])
def test_time_limits_are_bounded(make: Any, option: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"argument {option}: Input should be"):
        make(**{option: value})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, "much", object(), None])
async def test_progress_that_is_no_number_fails_the_workflow_and_reaches_nobody(make: Any, number: Any) -> None:
    run, events = await told(make(), lambda context: context.progress(number))
    assert isinstance(run.error, WorkflowFailed)
    assert "workflow.progress" not in [event.type for event in events]


async def test_progress_is_made_printable(make: Any) -> None:
    run, events = await told(
        make(), lambda context: context.progress(decimal.Decimal("1.5"), 3, "a\r\n\x1b[31m\ud800" + "x" * 10_000)
    )
    assert run.status == "completed"
    data = events[1].data
    assert data["done"] == 1.5
    assert data["message"].isprintable()
    assert len(data["message"]) == MESSAGE_CHARACTERS


async def test_after_the_end_nothing_more_is_told(make: Any) -> None:
    contexts: list[Context] = []
    run, _ = await told(make(), contexts.append)
    before = list(run.events)
    contexts[0].progress(1)
    contexts[0].emit("late")
    await asyncio.to_thread(contexts[0].progress, 2)
    await asyncio.sleep(0)
    assert run.events == before
    assert contexts[0].cancelled


@pytest.mark.parametrize("name", [None, 3, [], "\ud800", "a\r\nb\x1b[31m", "x" * 1_000_000])
async def test_a_name_may_be_anything(make: Any, name: Any) -> None:
    nexus = make()
    nexus.register("w", lambda: 1)
    run = nexus.submit(Invocation(name, {}))
    assert await run.wait(5)
    assert run.status == "failed"
    message = run.error.message
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize("raised", [KeyError("secret"), RuntimeError("secret")])
async def test_a_type_whose_own_check_is_broken_fails_its_workflow(make: Any, caplog: Any, raised: Exception) -> None:
    nexus = make()

    @dataclasses.dataclass
    class Strict:
        a: int

        def __post_init__(self) -> None:
            raise raised

    def work(item: Any) -> None: ...

    work.__annotations__ = {"item": Strict}
    nexus.register("work", work)
    with pytest.raises(WorkflowFailed, match="under the run's id") as failed:
        await nexus.invoke("work", {"item": {"a": 1}})
    assert failed.value.run_id in caplog.text
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("timeout", [math.nan, math.inf, 10**400, -1, 0, "5", True])
def test_a_workflows_time_limit_must_be_one(make: Any, timeout: Any) -> None:
    class Own(Workflow):
        async def run(self, params: dict[str, Any], context: Context) -> None: ...

    for target in (lambda: 1, Own("w", input_schema={"type": "object"}, metadata={"timeout": timeout})):
        with pytest.raises(ConfigurationError, match=r"w: metadata\['timeout'\] must be a number of seconds"):
            make().register("w", target, {"timeout": timeout})


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_stream_that_waits_for_nothing_lets_others_run_and_be_followed(make: Any, kind: str) -> None:
    nexus = make(max_result_bytes=1_000_000_000)
    made = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    def endless_in_a_thread() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    nexus.register("endless", endless if kind == "async" else endless_in_a_thread)
    async with nexus:
        run = nexus.submit(Invocation("endless", {}))
        seen = 0
        async for event in run.follow():
            seen += event.type == "workflow.output"
            if seen == 1000:
                assert made <= 1000 + 3 * BREATH
                run.cancel()
        assert run.status == "cancelled"


async def test_a_follower_hears_a_heartbeat_while_nothing_happens(make: Any) -> None:
    nexus, go_on = make(), asyncio.Event()

    @nexus.workflow
    async def work(context: Context) -> int:
        await go_on.wait()
        context.output(1)
        return 1

    async with nexus:
        seen = []
        async for event in nexus.submit(Invocation("work", {})).follow(heartbeat=0.01):
            seen.append(None if event is None else event.type)
            if seen[-2:] == [None, None]:
                go_on.set()
    assert seen[0] == "workflow.started"
    assert seen.count(None) >= 2
    assert [each for each in seen if each is not None][-2:] == ["workflow.output", "workflow.completed"]
