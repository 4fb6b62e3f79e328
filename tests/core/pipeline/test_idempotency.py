"""Idempotency keys: one run for each, whoever repeats the call, and however it ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nexus_core import (
    BackendUnavailable,
    Conflict,
    Context,
    Invocation,
    MalformedRequest,
    Principal,
    RunCancelled,
    Stage,
    ValidationError,
    WorkflowError,
    WorkflowFailed,
    hookimpl,
)
from nexus_core.pipeline.idempotency import UNFINISHED_SECONDS
from nexus_core.state.memory_store import MemoryStore
from nexus_core.testing import eventually


def call(name: str = "count", key: str | None = "k", user: str | None = None, **params: Any) -> Invocation:
    return Invocation(name, params, idempotency_key=key, principal=Principal(user) if user else None)


@pytest.fixture(name="nexus")
def nexus_fixture(make: Any) -> Any:
    nexus = make()
    nexus.ran = []

    @nexus.workflow
    async def count(n: int = 0) -> int:
        nexus.ran.append(n)
        return len(nexus.ran)

    @nexus.workflow
    async def other(n: int = 0) -> int:
        return -1

    return nexus


async def test_a_repeat_is_answered_as_the_first_and_does_not_run(nexus: Any) -> None:
    first = await nexus.invoke(call(n=1))
    again = await nexus.invoke(call(n=1))
    assert (first.value, first.replayed) == (1, False)
    assert (again.value, again.replayed, again.run_id) == (1, True, first.run_id)
    assert again.reply() == first.reply()[:-1] + b',"replayed":true}'
    assert nexus.ran == [1]


@pytest.mark.parametrize("key", ["", " ", "\t"])
async def test_an_empty_key_is_refused(nexus: Any, key: str) -> None:
    for _ in range(2):
        with pytest.raises(MalformedRequest, match="idempotency key is empty"):
            await nexus.invoke(call(key=key))
    assert nexus.ran == []


async def test_a_key_counts_for_one_caller_and_one_workflow(nexus: Any) -> None:
    assert [(await nexus.invoke(call(user=user))).value for user in (None, "ada", "bob", "ada")] == [1, 2, 3, 2]
    assert (await nexus.invoke(call("other"))).value == -1
    tenants = [Principal("x", tenant_id="a"), Principal("x", tenant_id="b"), Principal("a/x"), Principal("x")]
    values = [(await nexus.invoke(Invocation("count", {}, idempotency_key="t", principal=p))).value for p in tenants]
    assert values == [4, 5, 6, 7]


async def test_no_key_is_never_a_repeat(nexus: Any) -> None:
    assert [(await nexus.invoke(call(key=None))).value for _ in range(3)] == [1, 2, 3]


async def test_other_parameters_are_refused(nexus: Any) -> None:
    await nexus.invoke(call(n=1))
    with pytest.raises(ValidationError, match="used before, with other parameters"):
        await nexus.invoke(call(n=2))
    assert nexus.ran == [1]


async def test_what_was_refused_before_it_ran_may_be_tried_again(nexus: Any) -> None:
    with pytest.raises(ValidationError):
        await nexus.invoke(call(n="x"))
    assert (await nexus.invoke(call(n=1))).value == 1


@pytest.mark.parametrize("error", [WorkflowError("The order is empty."), RuntimeError("secret")])
async def test_a_failure_is_kept_too(nexus: Any, error: Exception) -> None:
    ran: list[str] = []

    @nexus.workflow
    async def fails(context: Context) -> None:
        ran.append(context.run_id)
        raise error

    told = []
    for _ in range(2):
        with pytest.raises(WorkflowFailed) as raised:
            await nexus.invoke(call("fails"))
        told.append(raised.value)
    assert len(ran) == 1
    assert told[1].details == {"replayed": True}
    assert told[1].problem() == told[0].problem() | {"replayed": True}
    assert type(told[1]) is type(told[0])


async def test_a_repeat_while_the_first_runs_is_a_conflict_and_the_first_goes_on_without_its_caller(nexus: Any) -> None:
    gate = asyncio.Event()

    @nexus.workflow
    async def slow() -> int:
        nexus.ran.append(0)
        await gate.wait()
        return 7

    first = asyncio.create_task(nexus.invoke(call("slow")))
    await eventually(lambda: nexus.ran)
    with pytest.raises(Conflict, match="still running"):
        await nexus.invoke(call("slow"))
    first.cancel()
    await asyncio.wait({first})
    gate.set()
    await eventually(lambda: not nexus.runs.running())
    assert (await nexus.invoke(call("slow"))).value == 7
    assert nexus.ran == [0]


async def test_many_at_once_run_once(nexus: Any) -> None:
    gate = asyncio.Event()

    @nexus.workflow
    async def gated() -> None:
        nexus.ran.append(0)
        await gate.wait()

    calls = [asyncio.create_task(nexus.invoke(call("gated"))) for _ in range(50)]
    await eventually(lambda: sum(each.done() for each in calls) == 49)
    assert all(isinstance(each.exception(), Conflict) for each in calls if each.done())
    gate.set()
    await asyncio.wait(calls)
    assert nexus.ran == [0]


async def test_an_answer_is_kept_for_its_time(make: Any) -> None:
    nexus = make(idempotency_ttl=0.05)
    ran: list[int] = []
    nexus.register("count", lambda: ran.append(1))
    await nexus.invoke(call())

    async def again() -> None:
        await nexus.invoke(call())

    await again()
    await asyncio.sleep(0.06)
    await again()
    assert len(ran) == 2


class Late:
    """An interceptor around the one for keys, which is slow on the way out."""

    stage = Stage.IDEMPOTENCY

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def __call__(self, invocation: Invocation, call_next: Any) -> Any:
        try:
            return await call_next(invocation)
        finally:
            await self.gate.wait()

    @hookimpl
    def nexus_register_interceptors(self) -> list[Any]:
        return [self]


@pytest.mark.parametrize("name", ["count", "fails"])
async def test_nobody_hears_of_an_end_before_the_answer_is_kept(make: Any, name: str) -> None:
    late = Late()
    nexus = make(late)
    nexus.register("count", lambda: 1)
    nexus.register("fails", lambda: 1 / 0)
    answer = asyncio.create_task(nexus.invoke(call(name)))
    run = nexus.submit(call(name, key="another"))
    await eventually(lambda: run.ended)
    assert not await run.wait(0)
    heard: list[str] = []

    async def follow() -> None:
        heard.extend([event.type async for event in run.follow()])

    following = asyncio.create_task(follow())
    await eventually(lambda: heard or run.followers)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (run.done, run.events[-1].is_terminal, answer.done(), following.done()) == (False, False, False, False)
    late.gate.set()
    await following
    assert run.done
    assert run.events[-1].is_terminal
    await asyncio.wait([answer])
    assert isinstance(answer.exception(), WorkflowFailed if name == "fails" else type(None))


class Away(MemoryStore):
    """A store that does not answer."""

    name = "away"

    def scoped(self, *account: Any) -> Away:
        return self

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        raise BackendUnavailable("The store does not answer.")


class Gives:
    """A plugin with a store."""

    def __init__(self, store: Any) -> None:
        self.store = store

    @hookimpl
    def nexus_register_stores(self) -> list[Any]:
        return [self.store]


async def test_without_the_store_a_call_with_a_key_is_refused(make: Any) -> None:
    nexus = make(Gives(Away()), store="away")
    ran: list[int] = []
    nexus.register("count", lambda: ran.append(1))
    async with nexus:
        with pytest.raises(BackendUnavailable):
            await nexus.invoke(call())
        assert ran == []
        await nexus.invoke(call(key=None))
    assert ran == [1]


class Times(MemoryStore):
    """A store that notes how long what is added may stay."""

    name = "times"

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def scoped(self, *account: Any) -> Times:
        return self

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        self.seconds.append(ttl)
        return await super().add(key, value, ttl)


async def test_a_claim_lasts_as_long_as_the_workflow_may_and_the_answer_as_long_as_is_set(make: Any) -> None:
    store = Times()
    nexus = make(Gives(store), store="times", workflow_timeout=100)
    nexus.register("usual", lambda: 1)
    nexus.register("short", lambda: 1, {"timeout": 5})
    async with nexus:
        for name in ("usual", "short"):
            await nexus.invoke(call(name))
    assert store.seconds == [100 + UNFINISHED_SECONDS, 5 + UNFINISHED_SECONDS]


class Outer:
    """A stage before the one of the keys, which notes what it is told."""

    stage = Stage.IDEMPOTENCY - 1

    def __init__(self) -> None:
        self.seen: list[type[BaseException] | None] = []

    @hookimpl
    def nexus_register_interceptors(self) -> list[Any]:
        return [self]

    async def __call__(self, invocation: Invocation, call_next: Any) -> Any:
        try:
            result = await call_next(invocation)
        except BaseException as exc:
            self.seen.append(type(exc))
            raise
        self.seen.append(None)
        return result


async def test_stages_further_out_see_what_became_of_the_call(make: Any) -> None:
    outer = Outer()
    nexus = make(outer)
    began = asyncio.Event()

    @nexus.workflow
    async def count() -> int:
        return 1

    @nexus.workflow
    async def refuses() -> None:
        raise WorkflowError("No.")

    @nexus.workflow
    async def waits() -> None:
        began.set()
        await asyncio.Event().wait()

    async with nexus:
        await nexus.invoke(call())
        with pytest.raises(WorkflowError):
            await nexus.invoke(call("refuses"))
        leaving = asyncio.create_task(nexus.invoke(call("waits")))
        await began.wait()
        with pytest.raises(Conflict, match="still running") as refused:
            await nexus.invoke(call("waits"))
        assert refused.value.retry_after == 1
        (run,) = nexus.runs.running()
        run.cancel()
        await asyncio.wait([leaving])
        await eventually(lambda: len(outer.seen) == 4)
    assert outer.seen == [None, WorkflowError, Conflict, RunCancelled]


async def test_an_entry_that_can_not_be_read_runs_nothing(nexus: Any) -> None:
    await nexus.invoke(call())
    store = nexus.store("memory", "store")
    (key,) = store.keys()
    await store.set(key, b"\x80\x04pickle", 60)
    with pytest.raises(Conflict, match="can't be read"):
        await nexus.invoke(call())
    assert nexus.ran == [0]
