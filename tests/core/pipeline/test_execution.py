from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import (
    ConfigurationError,
    Context,
    Invocation,
    NexusError,
    Overloaded,
    RunCancelled,
    RunNotFound,
    Stage,
    ValidationError,
    WorkflowError,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTimeout,
    hookimpl,
)
from nexus_core.testing import eventually, stage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nexus_core import Call, Result


def admission(nexus: Any) -> Any:
    return stage_of(nexus, Stage.ADMIT)


async def test_every_kind_of_callable_runs(make: Any) -> None:
    class Adder:
        def __call__(self, a: int, b: int) -> int:
            return a + b

        async def later(self, a: int, b: int) -> int:
            return a + b

    def plain(a: int, b: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        return a + b

    async def coroutine(a: int, /, b: int) -> int:
        return a + b

    def named(**numbers: int) -> int:
        return sum(numbers.values())

    def gives_awaitable(a: int, b: int) -> Any:
        return coroutine(a, b)

    def three(a: int, b: int, c: int) -> int:
        return a + b + c

    nexus = make()
    kinds = [plain, coroutine, named, gives_awaitable, Adder(), Adder().later, functools.partial(three, c=0)]
    for number, function in enumerate(kinds):
        nexus.register(f"f{number}", function)
        assert (await nexus.invoke(f"f{number}", {"a": 1, "b": 2})).value == 3


async def test_streams_are_collected_and_published(make: Any) -> None:
    nexus = make()

    async def ahead(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    def aside(n: int) -> Iterator[int]:
        yield from range(n)

    for function in (ahead, aside):
        nexus.register(function.__name__, function)
        run = nexus.submit(Invocation(function.__name__, {"n": 3}))
        events = [event async for event in run.follow()]
        assert [e.data["value"] for e in events if e.type == "workflow.output"] == [0, 1, 2]
        assert (await run.outcome()).value == [0, 1, 2]
        assert (await nexus.invoke(function.__name__, {"n": 0})).value == []


async def test_an_endless_stream_ends_at_the_limit(make: Any) -> None:
    nexus = make(max_result_bytes=10_000)

    @nexus.workflow
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "x" * 100

    with pytest.raises(WorkflowError, match="max_result_bytes"):
        await nexus.invoke("endless")


async def test_context_tells_and_is_told(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    def work(steps: int, told: Context) -> list[Any]:
        for step in range(steps):
            told.progress(step + 1, steps, "working")
        told.emit("half", {"a": 1})
        assert told.remaining is not None
        return [told.run_id, told.workflow, told.channel, told.session, told.principal, told.cancelled]

    run = nexus.submit(Invocation("work", {"steps": 3}, timeout=30))
    events = [event async for event in run.follow()]
    progress = [e.data for e in events if e.type == "workflow.progress"]
    assert progress == [{"done": n, "total": 3, "message": "working"} for n in (1, 2, 3)]
    assert [e.data for e in events if e.type == "workflow.event"] == [{"name": "half", "value": {"a": 1}}]
    assert (await run.outcome()).value == [run.id, "work", "python", None, None, False]
    numbers = [event.number for event in events]
    assert numbers == sorted(set(numbers))
    assert [event.number async for event in run.follow(after=numbers[1])] == numbers[2:]


@pytest.mark.parametrize(
    "exception",
    [
        RuntimeError("a secret"), SystemExit(3), KeyboardInterrupt(), StopIteration(1), StopAsyncIteration(),
        asyncio.CancelledError(), GeneratorExit(), TimeoutError(), ExceptionGroup("a secret", [ValueError("a secret")]),
        BaseExceptionGroup("a secret", [KeyboardInterrupt()]), ValidationError("a secret"), Overloaded("a secret"),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["async", "thread", "stream"])
async def test_whatever_is_raised_fails_the_run_and_stays_in_the_log(make: Any, exception: Any, kind: str) -> None:
    nexus = make()

    async def later() -> None:
        raise exception

    def aside() -> None:
        raise exception

    async def stream() -> AsyncIterator[int]:
        yield 1
        raise exception

    nexus.register("bad", {"async": later, "thread": aside, "stream": stream}[kind])
    nexus.register("good", lambda: 1)
    with pytest.raises(WorkflowFailed) as caught:
        await asyncio.wait_for(nexus.invoke("bad"), 5)
    problem = caught.value.problem()
    assert problem["code"] == "workflow_failed"
    assert problem["run_id"] == nexus.runs.find()[0].id
    assert "secret" not in str(problem)
    assert (await nexus.invoke("good")).value == 1
    assert admission(nexus).in_use == 0


async def test_a_workflow_error_is_shown(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    def explain() -> None:
        raise WorkflowError("The order has no items.", details={"order": 7})

    with pytest.raises(WorkflowError, match="no items") as caught:
        await nexus.invoke("explain")
    assert caught.value.problem()["order"] == 7


async def test_results_that_can_not_be_sent_fail(make: Any) -> None:
    nexus = make(max_result_bytes=1000)
    loop: list[Any] = []
    loop.append(loop)
    for number, value in enumerate([object(), float("nan"), loop, "x" * 2000, {"a": {1j}}, "\ud800"]):
        nexus.register(f"bad{number}", lambda value=value: value, {"expected_parameters": {"value": {}}})
        with pytest.raises(WorkflowFailed):
            await nexus.invoke(f"bad{number}")


async def test_a_time_limit_is_kept_whatever_the_code_does(make: Any) -> None:
    nexus = make(workflow_timeout=20, shutdown_grace=0)
    release = threading.Event()

    @nexus.workflow(timeout=0.1)
    async def hangs() -> None:
        await asyncio.Event().wait()

    @nexus.workflow(timeout=0.1)
    async def refuses_to_stop() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    @nexus.workflow(timeout=0.1)
    def blocks() -> None:
        release.wait(20)

    for name in ("hangs", "refuses_to_stop", "blocks"):
        begin = time.monotonic()
        with pytest.raises(WorkflowTimeout, match=r"0\.1 seconds"):
            await nexus.invoke(name)
        assert time.monotonic() - begin < 5
    # What goes on keeps its place until it has really ended.
    assert admission(nexus).in_use == 2
    release.set()
    await eventually(lambda: admission(nexus).in_use == 0)


async def test_the_caller_may_shorten_the_limit_and_not_lengthen_it(make: Any) -> None:
    nexus = make()

    @nexus.workflow(timeout=0.1)
    async def hangs() -> None:
        await asyncio.Event().wait()

    for timeout, shown in ((0.05, "0.05"), (60, "0.1")):
        with pytest.raises(WorkflowTimeout, match=shown):
            await nexus.invoke(Invocation("hangs", {}, timeout=timeout))


async def test_more_than_the_limit_is_refused_at_once_and_nothing_leaks(make: Any) -> None:
    nexus = make(max_concurrent_workflows=5)
    gate = asyncio.Event()

    @nexus.workflow
    async def wait() -> int:
        await gate.wait()
        return 1

    calls = [asyncio.create_task(nexus.invoke("wait")) for _ in range(20)]
    await eventually(lambda: sum(call.done() for call in calls) == 15)
    refused = [call.exception() for call in calls if call.done()]
    assert all(isinstance(each, Overloaded) and each.retry_after for each in refused)
    assert "max_concurrent_workflows (5)" in str(refused[0])
    for call in [call for call in calls if not call.done()][:2]:
        call.cancel()
    await eventually(lambda: admission(nexus).in_use == 3)
    gate.set()
    await asyncio.wait(calls)
    assert admission(nexus).in_use == 0
    assert (await nexus.invoke("wait")).value == 1


async def test_cancelling_the_call_cancels_the_run(make: Any) -> None:
    nexus = make()
    seen: list[str] = []
    threads_told = threading.Event()

    @nexus.workflow
    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    @nexus.workflow
    def blocks(context: Context) -> None:
        while not context.cancelled:
            time.sleep(0.005)
        threads_told.set()

    for name in ("hangs", "blocks"):
        call = asyncio.create_task(nexus.invoke(name))
        await eventually(lambda: len(nexus.runs.running()) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert nexus.runs.find()[0].status == "cancelled"
    assert seen == ["cancelled"]
    await eventually(threads_told.is_set)
    await eventually(lambda: admission(nexus).in_use == 0)


async def test_a_run_can_be_cancelled_in_each_phase(make: Any) -> None:
    nexus = make()
    release = threading.Event()

    @nexus.workflow
    async def hangs() -> None:
        await asyncio.Event().wait()

    @nexus.workflow
    async def refuses_to_stop() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    for name in ("hangs", "refuses_to_stop"):
        early = nexus.submit(Invocation(name, {}))
        assert early.cancel()
        assert await early.wait(5)
        assert early.status == "cancelled"
        running = nexus.submit(Invocation(name, {}))
        await running.started_or_rejected()
        assert running.cancel()
        with pytest.raises(RunCancelled):
            await asyncio.wait_for(running.outcome(), 5)
        assert not running.cancel()
    release.set()
    await eventually(lambda: admission(nexus).in_use == 0)
    done = nexus.submit(Invocation("nothing", {}))
    with pytest.raises(WorkflowNotFound):
        await done.outcome()


async def test_workflows_come_and_go_while_calls_run(make: Any) -> None:
    nexus = make()
    gate = asyncio.Event()

    async def old() -> str:
        await gate.wait()
        return "old"

    nexus.register("w", old)
    call = asyncio.create_task(nexus.invoke("w"))
    await eventually(lambda: nexus.runs.running())
    with pytest.raises(ConfigurationError, match="replace=True"):
        nexus.register("w", lambda: "new")
    nexus.register("w", lambda: "new", replace=True)
    assert (await nexus.invoke("w")).value == "new"
    nexus.unregister("w")
    with pytest.raises(WorkflowNotFound):
        await nexus.invoke("w")
    with pytest.raises(WorkflowNotFound, match='Did you mean "w"'):
        nexus.register("w", lambda: 1) and nexus.unregister("w2")
    gate.set()
    assert (await call).value == "old"


@pytest.mark.parametrize("name", ["", "a/b", "..", "a..b", "a\r\nb", ".a", "-a", "é", "a" * 129, "a b", None, 3])
def test_names_that_can_not_be(make: Any, name: Any) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        make().register(name, lambda: 1)


@pytest.mark.parametrize(
    "metadata",
    [
        {"timeout": 0}, {"timeout": "5"}, {"timeout": True}, {"tags": "a"}, {"tags": [1]}, {"description": 5},
        {"category": ["a"]}, {"owner": object()}, {"weight": float("nan")},
    ],
)  # fmt: skip
def test_metadata_that_can_not_be(make: Any, metadata: Any) -> None:
    with pytest.raises(ConfigurationError, match="metadata"):
        make().register("w", lambda: 1, metadata)


async def test_interceptors_run_in_the_order_of_their_stages(make: Any) -> None:
    order: list[str] = []

    class Note:
        def __init__(self, stage: Stage, name: str) -> None:
            self.stage, self.name = stage, name

        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            order.append(self.name)
            return await call_next(invocation)

    class Plugin:
        @hookimpl
        def nexus_register_interceptors(self) -> list[Note]:
            late = [Note(Stage.BREAKER, "breaker"), Note(Stage.CACHE, "cache 1"), Note(Stage.CACHE, "cache 2")]
            return [*late, Note(Stage.AUTHORIZE, "authorize"), Note(Stage.OBSERVE, "observe")]

    nexus = make(Plugin())
    nexus.register("w", lambda: order.append("workflow"))
    await nexus.invoke("w")
    assert order == ["observe", "authorize", "cache 1", "cache 2", "breaker", "workflow"]
    order.clear()
    with pytest.raises(ValidationError):
        await nexus.invoke("w", {"a": 1})
    assert order == ["observe", "authorize"]  # who may not call it is not told what it takes


async def test_a_broken_interceptor_is_an_internal_error_without_its_text(make: Any) -> None:
    class Broken:
        stage = Stage.LIMIT

        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            raise RuntimeError("a secret")

    class Plugin:
        @hookimpl
        def nexus_register_interceptors(self) -> list[Broken]:
            return [Broken()]

    nexus = make(Plugin())
    nexus.register("w", lambda: 1)
    with pytest.raises(NexusError) as caught:
        await nexus.invoke("w")
    assert caught.value.code == "internal_error"
    assert "secret" not in str(caught.value.problem())
    assert admission(nexus).in_use == 0


async def test_parameter_resolvers_may_block_and_raise(make: Any) -> None:
    class Resolver:
        def resolve_parameters(self, workflow_name: str, channel: str, raw_params: dict[str, Any]) -> dict[str, Any]:
            assert threading.current_thread() is not threading.main_thread()
            if "bad" in raw_params:
                raise ValidationError("/bad: is bad")
            return {"n": int(raw_params["text"])}

    nexus = make()
    nexus.register_parameter_resolver(Resolver())
    nexus.register("w", lambda n: n, {"expected_parameters": {"n": {"type": "integer", "required": True}}})
    assert (await nexus.invoke("w", {"text": "4"})).value == 4
    with pytest.raises(ValidationError, match="is bad"):
        await nexus.invoke("w", {"bad": 1})


async def test_history_is_bounded(make: Any) -> None:
    nexus = make(run_history=10, run_history_bytes=20_000)

    @nexus.workflow
    async def big(n: int) -> AsyncIterator[str]:
        for _ in range(n):
            yield "x" * 100

    for _ in range(30):
        await nexus.invoke("big", {"n": 20})
    kept = nexus.runs.find(limit=1000)
    assert len(kept) == 10
    assert all(run.result is None and len(run.events) == 2 for run in kept)
    runs = [nexus.submit(Invocation("big", {"n": 20})) for _ in range(5)]
    for run in runs:
        await run.wait()
    await eventually(lambda: not nexus.runs.running())
    assert sum(run.result is not None for run in runs) == 1
    assert runs[-1].result is not None


async def test_history_ends(make: Any, monkeypatch: Any) -> None:
    nexus = make(run_history_ttl=60)
    nexus.register("work", lambda: 1)
    old = nexus.submit(Invocation("work", {}))
    await eventually(lambda: old.done and not nexus.runs.running())  # they are forgotten in the order of their ends
    young = nexus.submit(Invocation("work", {}))
    await eventually(lambda: young.done and not nexus.runs.running())
    old.finished_at -= 61
    assert [run.id for run in nexus.runs.find()] == [young.id]
    with pytest.raises(RunNotFound):
        nexus.runs.get(old.id)
    assert nexus.runs.get(young.id).result.value == 1
    assert nexus.runs.kept_bytes == young.bytes_kept()
    young.finished_at -= 61
    await nexus.invoke("work")
    assert nexus.runs.kept_bytes == 0


async def test_progress_kept_is_bounded(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def busy(context: Context) -> None:
        for number in range(5000):
            context.progress(number)

    run = nexus.submit(Invocation("busy", {}))
    await run.wait()
    assert len(run.events) <= 260
    assert run.events[0].type == "workflow.started"
    assert run.events[-1].is_terminal


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start eagerly from Python 3.12 on")
async def test_work_that_waits_for_nothing_needs_no_turn_of_the_loop(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def quick() -> int:
        return 1

    await nexus.invoke("quick")
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await nexus.invoke("quick")
    assert turns == []
