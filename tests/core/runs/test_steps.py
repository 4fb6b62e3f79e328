from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from typing import Any

import pytest

from nexus_core import Caller, Context, Invocation, Nexus, NexusError, RunCancelled, RunStatus, WorkflowError
from nexus_core.errors import RunNotFound, StepTimeout
from nexus_core.events.event import EventBus
from nexus_core.runs import step_log, steps
from nexus_core.runs.history import RunHistory
from nexus_core.runs.memory import MemoryRunStore
from nexus_core.runs.record import RunChange, RunRecord, RunStep
from nexus_core.runs.run import Run
from nexus_core.runs.stored_run import RunLookup
from nexus_core.testing import eventually

SOON = 0.001


async def double(number: int) -> int:
    return 2 * number


def shown(found: list[Any]) -> list[tuple[str, int, str | None]]:
    return [(step.name, step.attempt, step.outcome) for step in found]


async def steps_of(nexus: Nexus, run_id: str, **page: int) -> list[Any]:
    return await (await nexus.view(Caller())).steps(run_id, **page)


async def recorded(nexus: Nexus, name: str, params: dict[str, Any] | None = None) -> list[Any]:
    """Run a workflow, whatever comes of it, and return its steps."""
    run = nexus.submit(Invocation(name, params or {}))
    with run.hold():
        await run.wait(20)
    return await steps_of(nexus, run.id)


async def test_a_step_is_called_and_recorded(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def work(context: Context) -> list[Any]:
        own = threading.get_ident()
        return [
            await context.step("double", double, 4),
            await context.step("thread", lambda: threading.get_ident() != own),
            await context.step("later", lambda: double(5)),
            await context.step("partial", functools.partial(double, 6)),
            await context.in_thread(len, "abc"),
            await context.sleep(0),
        ]

    async with nexus:
        began = time.time()
        result = await nexus.invoke("work", {})
        assert result.value == [8, True, 10, 12, 3, None]
        found = await steps_of(nexus, result.run_id)
        assert [step.name for step in found] == ["double", "thread", "later", "partial", "len", "sleep"]
        assert [step.number for step in found] == [1, 2, 3, 4, 5, 6]
        assert [step.size for step in found] == [1, 4, 2, 2, 1, 4]
        for step in found:
            assert (step.attempt, step.outcome, step.error) == (1, "completed", None)
            assert began - 1 < step.began_at <= step.ended_at < began + 30
        assert [step.number for step in await steps_of(nexus, result.run_id, after=2, limit=2)] == [3, 4]
        assert found[0].to_dict().keys() == {
            "number", "name", "attempt", "began_at", "ended_at", "duration", "outcome", "size",
        }  # fmt: skip


async def test_a_workflow_without_steps_has_none(make: Any) -> None:
    nexus = make()
    nexus.register("double", double)
    async with nexus:
        run = nexus.submit(Invocation("double", {"number": 2}))
        assert (await run.outcome()).value == 4
        assert run.steps is None
        assert await steps_of(nexus, run.id) == []
        with pytest.raises(RunNotFound):
            await steps_of(nexus, "no such run")


async def test_a_step_that_goes_on_is_shown(make: Any) -> None:
    nexus = make()
    release = asyncio.Event()

    @nexus.workflow
    async def work(context: Context) -> None:
        await context.step("wait", release.wait)

    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        await eventually(lambda: run.steps is not None)
        (step,) = await steps_of(nexus, run.id)
        assert (step.ended_at, step.outcome) == (None, None)
        assert step.to_dict().keys() == {"number", "name", "attempt", "began_at"}
        release.set()
        await run.outcome()
        assert shown(await steps_of(nexus, run.id)) == [("wait", 1, "completed")]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_step_is_repeated_after_exceptions(make: Any, in_thread: bool, caplog: Any) -> None:
    nexus = make()
    calls: list[str] = []

    def flaky(kind: str) -> str:
        calls.append(kind)
        if len(calls) == 1:
            raise ConnectionError("password=secret")
        if len(calls) == 2:
            raise WorkflowError("The shop is closed.")
        return kind

    if in_thread:

        def work(context: Context) -> Any:
            return context.step_sync("fetch", flaky, "b", retries=2, backoff=SOON)

    else:

        async def work(context: Context) -> Any:  # type: ignore[misc]
            return await context.step("fetch", flaky, "b", retries=2, backoff=SOON)

    nexus.register("work", work)
    async with nexus:
        result = await nexus.invoke("work", {})
        assert (result.value, calls) == ("b", ["b", "b", "b"])
        found = await steps_of(nexus, result.run_id)
        assert shown(found) == [("fetch", 1, "failed"), ("fetch", 2, "failed"), ("fetch", 3, "completed")]
        assert found[0].error == "The step failed; the server's log has the reason under the run's id."
        assert found[1].error == "The shop is closed."
        assert "password=secret" in caplog.text
        assert any(getattr(record, "run_id", None) == result.run_id for record in caplog.records)


async def test_the_last_failure_is_the_workflows(make: Any) -> None:
    nexus = make()
    attempts = 0

    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise WorkflowError(f"attempt {attempts}")

    @nexus.workflow
    async def work(context: Context) -> None:
        await context.step("fail", fail, retries=2, backoff=0)

    async with nexus:
        with pytest.raises(WorkflowError, match="attempt 3"):
            await nexus.invoke("work", {})
        assert attempts == 3


def test_pauses_grow_and_vary() -> None:
    plan = steps.StepPlan("a", len, 100, 1.0, None)
    for attempt, longest in ((1, 1.0), (2, 2.0), (4, 8.0), (20, 60.0), (5000, 60.0)):
        pauses = {plan.pause(attempt) for _ in range(50)}
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 10
    assert 300 <= steps.StepPlan("a", len, 100, 600, None).pause(9) <= 600


@pytest.mark.parametrize("in_thread", [False, True])
async def test_no_attempt_begins_after_the_deadline(make: Any, in_thread: bool) -> None:
    nexus = make()
    calls: list[float] = []

    def fail() -> None:
        calls.append(time.monotonic())
        raise WorkflowError("no")

    def work_in_thread(context: Context) -> None:
        context.step_sync("fail", fail, retries=5, backoff=1000)

    async def work(context: Context) -> None:
        await context.step("fail", fail, retries=5, backoff=1000)

    nexus.register("work", work_in_thread if in_thread else work, {"timeout": 60})
    async with nexus:
        with pytest.raises(WorkflowError, match="no"):  # at once: it is of no use to wait for the deadline
            await asyncio.wait_for(nexus.invoke("work", {}), 20)
        assert len(calls) == 1


@pytest.mark.parametrize("kind", ["async", "sync", "from a thread", "sync from a thread"])
async def test_an_attempt_has_a_time_limit(make: Any, kind: str) -> None:
    nexus = make()
    release = threading.Event()
    calls = 0

    async def slow() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(60)

    def slow_in_thread() -> None:
        nonlocal calls
        calls += 1
        release.wait(60)

    function = slow_in_thread if kind.startswith("sync") else slow

    async def work(context: Context) -> None:
        await context.step("slow one", function, retries=1, backoff=0, timeout=0.05)

    def work_in_thread(context: Context) -> None:
        context.step_sync("slow one", function, retries=1, backoff=0, timeout=0.05)

    nexus.register("work", work_in_thread if "from" in kind else work)
    async with nexus:
        with pytest.raises(StepTimeout, match=r'The step "slow one" did not finish within 0.05 seconds.') as caught:
            await asyncio.wait_for(nexus.invoke("work", {}), 20)
        release.set()
        assert (caught.value.code, caught.value.status, caught.value.exit_code) == ("step_timeout", 504, 124)
        assert calls == 2
        assert caught.value.run_id is not None
        found = await steps_of(nexus, caught.value.run_id)
        assert shown(found) == [("slow one", 1, "failed"), ("slow one", 2, "failed")]
        assert "did not finish" in found[0].error


async def test_a_functions_own_timeout_stays_what_it_is(make: Any) -> None:
    nexus = make()

    async def fail() -> None:
        raise TimeoutError("the database's")

    @nexus.workflow
    async def work(context: Context) -> str:
        try:
            await context.step("fail", fail, timeout=60)
        except TimeoutError as exc:
            return str(exc)
        return ""

    async with nexus:
        assert (await nexus.invoke("work", {})).value == "the database's"


async def test_a_cancelled_run_ends_its_step_without_a_repetition(make: Any) -> None:
    nexus = make()
    calls = 0

    async def wait() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(60)

    async def clean_up() -> None:
        await asyncio.sleep(0)

    @nexus.workflow
    async def work(context: Context) -> None:
        try:
            await context.step("wait", wait, retries=5, backoff=0)
        finally:
            await context.step("clean up", clean_up)

    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        await eventually(lambda: calls == 1)
        run.cancel()
        with pytest.raises(RunCancelled):
            await run.outcome()
        assert shown(await steps_of(nexus, run.id)) == [("wait", 1, "cancelled"), ("clean up", 1, "completed")]
        assert calls == 1


async def test_a_cancelled_run_in_a_thread_is_told_once_and_may_clean_up(make: Any) -> None:
    nexus = make()
    told: list[str] = []
    done = threading.Event()

    @nexus.workflow
    def work(context: Context) -> None:
        try:
            context.step_sync("wait", context.sleep, 60)
        except RunCancelled:
            told.append("cancelled")
        told.append(context.step_sync("clean up", lambda: "cleaned up"))
        done.set()

    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        await eventually(lambda: run.steps is not None)
        run.cancel()
        await eventually(done.is_set)
        assert told == ["cancelled", "cleaned up"]
        found = await steps_of(nexus, run.id)
        assert all(step.outcome == "cancelled" for step in found if step.name in ("wait", "sleep"))
        assert not run.unfinished()


async def test_a_step_ends_with_its_run(make: Any) -> None:
    nexus = make()
    release = threading.Event()

    @nexus.workflow(timeout=0.1)
    async def work(context: Context) -> None:
        await context.in_thread(release.wait, 60)

    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        with pytest.raises(NexusError):
            await run.outcome()
        (step,) = await steps_of(nexus, run.id)
        assert (step.name, step.outcome, step.ended_at) == ("wait", "cancelled", run.finished_at)
        await eventually(lambda: bool(run.unfinished()))  # the thread is counted as long as it goes on
        release.set()
        await eventually(lambda: not run.unfinished())


async def test_threads_of_steps_are_workflow_threads(make: Any) -> None:
    nexus = make(workflow_threads=2)
    at_once, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1

    @nexus.workflow
    async def spread(context: Context) -> None:
        await asyncio.gather(*(context.in_thread(work) for _ in range(10)))

    @nexus.workflow
    def nested(context: Context) -> Any:
        return context.step_sync("outer", lambda: context.step_sync("inner", len, "ab", timeout=10), timeout=10)

    async with nexus:
        await asyncio.wait_for(nexus.invoke("spread", {}), 20)
        assert 1 <= most <= 2
        results = await asyncio.wait_for(asyncio.gather(*(nexus.invoke("nested", {}) for _ in range(6))), 20)
        assert [result.value for result in results] == [2] * 6  # they hold their threads, and do not wait for more


async def test_steps_of_a_sync_workflow(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    def work(context: Context) -> list[Any]:
        own = threading.get_ident()

        async def on_loop() -> bool:
            return threading.get_ident() != own

        context.sleep_sync(0.001)
        return [
            context.step_sync("same thread", lambda: threading.get_ident() == own),
            context.step_sync("async", on_loop),
            context.step_sync("awaitable", lambda: double(4)),
            asyncio.run(context.step("own loop", double, 5)),
        ]

    @nexus.workflow
    async def blocks(context: Context) -> None:
        context.step_sync("no", len, "")

    async with nexus:
        result = await nexus.invoke("work", {})
        assert result.value == [True, True, 8, 10]
        names = ["sleep", "same thread", "async", "awaitable", "own loop"]
        assert [step.name for step in await steps_of(nexus, result.run_id)] == names
        context: list[Context] = []

        @nexus.workflow
        async def keep(context_of_run: Context) -> None:
            context.append(context_of_run)

        await nexus.invoke("keep", {})
        for call in (lambda: context[0].step_sync("a", len, ""), lambda: context[0].sleep_sync(0)):
            with pytest.raises(RuntimeError, match="use await context"):
                call()


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("", len, ""), {}, "name must have 1 to 128"),
        (("  ", len, ""), {}, "name must have 1 to 128"),
        (("x" * 129, len, ""), {}, "name must have 1 to 128"),
        (("a\nb", len, ""), {}, "name must have 1 to 128"),
        ((7, len, ""), {}, "name must be a text, not int"),
        ((len, "a"), {}, "name must be a text, not builtin"),
        (("a", None), {}, "fn must be a function, not NoneType"),
        (("a", len, ""), {"retries": -1}, "retries must be a whole number, 0 or more"),
        (("a", len, ""), {"retries": True}, "retries must be a whole number"),
        (("a", len, ""), {"retries": 1.5}, "retries must be a whole number"),
        (("a", len, ""), {"backoff": -1}, "backoff must be a finite number of seconds"),
        (("a", len, ""), {"backoff": float("nan")}, "backoff must be a finite number of seconds"),
        (("a", len, ""), {"backoff": "1"}, "backoff must be a number of seconds, not str"),
        (("a", len, ""), {"timeout": 0}, "timeout must be above 0"),
        (("a", len, ""), {"timeout": float("inf")}, "timeout must be a finite number of seconds"),
        (("a", len, ""), {"timeout": "soon"}, "timeout must be a number of seconds, not str"),
    ],
)
async def test_bad_arguments_are_named(make: Any, args: Any, options: Any, message: str) -> None:
    nexus = make()
    seen: list[str] = []

    @nexus.workflow
    async def work(context: Context) -> None:
        try:
            await context.step(*args, **options)
        except (TypeError, ValueError) as exc:
            seen.append(str(exc))
        for seconds in (-1, "1", float("nan")):
            with pytest.raises((TypeError, ValueError), match="seconds must be"):
                await context.sleep(seconds)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="fn must be a sync function"):
            await context.in_thread(double, 1)

    async with nexus:
        result = await nexus.invoke("work", {})
        assert len(seen) == 1
        assert message in seen[0]
        assert await steps_of(nexus, result.run_id) == []


async def test_what_is_kept_of_steps_is_bounded(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_log, "STEPS_KEPT", 5)
    nexus = make()

    @nexus.workflow
    async def work(context: Context, count: int) -> None:
        for number in range(count):
            await context.step(f"step {number}", double, number)

    async with nexus:
        run = nexus.submit(Invocation("work", {"count": 20}))
        await run.outcome()
        assert [step.number for step in await steps_of(nexus, run.id)] == [16, 17, 18, 19, 20]
        assert run.steps is not None
        assert not run.steps.is_complete
        assert run.bytes_kept() >= 5 * step_log.STEP_BYTES


async def test_what_is_stored_of_steps_is_bounded(make: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(steps, "STEPS_STORED", 3)
    stored: list[tuple[str, RunStep]] = []
    runner = steps.StepRunner(make().threads, lambda run_id, step: stored.append((run_id, step)))
    run = Run("work", "test", EventBus(make().threads))
    for number in range(6):
        with steps.Recording(runner, run, asyncio.get_running_loop(), f"step {number}", 1) as step:
            step.size = number
    assert [(run_id, step.number, step.outcome, step.size) for run_id, step in stored] == [
        (run.id, number, *end) for number in (1, 2, 3) for end in ((None, 0), ("completed", number - 1))
    ]
    assert caplog.text.count("has more than 3 steps") == 1


async def test_steps_of_the_oldest_runs_make_room(make: Any) -> None:
    nexus = make(run_history_bytes=10 * step_log.STEP_BYTES)

    @nexus.workflow
    async def work(context: Context) -> None:
        for number in range(4):
            await context.step("a", double, number)

    async with nexus:
        ids = [(await nexus.invoke("work", {})).run_id for _ in range(5)]
        counts = [len(await steps_of(nexus, run_id)) for run_id in ids]
        assert counts[0] == 0
        assert counts[-1] == 4
        assert nexus.runs.kept_bytes <= 10 * step_log.STEP_BYTES


async def test_the_size_is_that_of_plain_values_alone(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def work(context: Context) -> None:
        for value in ([1, 2, 3], object(), iter("abc"), {"a": object()}):
            returned = await context.step("give", lambda value=value: value)
            assert returned is value

    async with nexus:
        found = await recorded(nexus, "work")
        assert [step.size for step in found] == [7, 0, 0, 0]


async def test_many_threads_number_their_steps(make: Any) -> None:
    nexus = make(workflow_threads=8)

    @nexus.workflow
    async def work(context: Context) -> None:
        def many() -> None:
            for _ in range(20):
                context.step_sync("small", int)

        await asyncio.gather(*(context.in_thread(many) for _ in range(8)))

    async with nexus:
        found = await recorded(nexus, "work")
        assert [step.number for step in found] == [*range(1, 169)]
        assert {step.outcome for step in found} == {"completed"}


async def test_a_step_of_a_killed_process_was_interrupted() -> None:
    store, history = MemoryRunStore(clock=lambda: 4.0), RunHistory(10, 10_000, 60.0)
    await store.open("reader")
    await store.begin(RunRecord("r1", "work", "api", 1.0, executor="killed"), RunStatus.RUNNING)
    begun = RunStep(1, "a", 1, 1.0, 2.0, "completed", 3), RunStep(2, "b", 1, 2.0)
    await store.write([RunChange("r1", steps=begun)])
    lookup = RunLookup(history, store)
    assert [step.outcome for step in await lookup.steps("r1", None, 0, 10)] == ["completed", None]
    assert await store.end(RunChange("r1", status=RunStatus.FAILED, finished_at=3.0, problem={}))
    ended = await lookup.steps("r1", None, 0, 10)
    assert [step.outcome for step in ended] == ["completed", "interrupted"]
    assert ended[1].to_dict() == {"number": 2, "name": "b", "attempt": 1, "began_at": 2.0, "outcome": "interrupted"}
    await store.close()


@pytest.fixture(autouse=True)
def _log_level(caplog: Any) -> None:
    caplog.set_level(logging.WARNING)
