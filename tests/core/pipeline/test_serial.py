"""One call at a time for each session, caller or parameter: in order, bounded, cancellable, across processes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from nexus_core import (
    BackendUnavailable,
    Caller,
    ConfigurationError,
    Conflict,
    Context,
    Invocation,
    Nexus,
    Overloaded,
    Principal,
    RunCancelled,
    Stage,
    WorkflowTimeout,
    hookimpl,
)
from nexus_core.pipeline.stage import compose
from nexus_core.state import heartbeat, shared_queues
from nexus_core.state.memory_store import MemoryStore
from nexus_core.testing import eventually, stage_of

ITEMS = 30


class Shared(MemoryStore):
    """A store that several platforms share; it may be away."""

    name = "shared"

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False

    def _answer(self) -> None:
        if self.is_away:
            raise BackendUnavailable("The store does not answer.")

    async def get(self, key: str) -> bytes | None:
        self._answer()
        await asyncio.sleep(0)
        return await super().get(key)

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        self._answer()
        await asyncio.sleep(0)
        return await super().add(key, value, ttl)

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        self._answer()
        await asyncio.sleep(0)
        return await super().replace(key, old, new, ttl)

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        self._answer()
        await asyncio.sleep(0)
        return await super().delete(key, value)


class Gives:
    """A plugin with a store."""

    def __init__(self, store: Shared) -> None:
        self.store = store

    @hookimpl
    def nexus_register_stores(self) -> list[Any]:
        return [self.store]


class Gate:
    """A workflow that waits, and what it was called with, in order."""

    def __init__(self, nexus: Nexus, **metadata: Any) -> None:
        self.ran: list[Any] = []
        self.at_once = self.most = 0
        self.opened = asyncio.Semaphore(0)

        async def work(key: str = "a", n: int = 0) -> int:
            self.ran.append(n)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                await self.opened.acquire()
            finally:
                self.at_once -= 1
            return n

        nexus.register("work", work, {"serial": "key"} | metadata)

    def open(self, count: int = 1) -> None:
        for _ in range(count):
            self.opened.release()


def basket(nexus: Nexus) -> None:
    """Register the read-modify-write of the documentation, with a pause in between."""

    @nexus.workflow(serial="session")
    async def put(item: int, context: Context) -> list[int]:
        assert context.session is not None
        items = list(context.session.state.get("basket", []))
        await asyncio.sleep(0)
        context.session.state["basket"] = [*items, item]
        return items


def call(n: int = 0, key: str = "a", **how: Any) -> Invocation:
    return Invocation("work", {"key": key, "n": n}, **how)


@pytest.fixture(params=["memory", "shared"], name="options")
def options_fixture(request: pytest.FixtureRequest) -> Any:
    """What makes a platform whose queues are in its memory, or in a store."""
    return ((), {}) if request.param == "memory" else ((Gives(Shared()),), {"store": "shared"})


@pytest.fixture(name="nexus")
def nexus_fixture(make: Any, options: Any) -> Nexus:
    plugins, others = options
    return make(*plugins, **others)


@pytest.fixture(name="pair")
def pair_fixture(make: Any) -> tuple[Shared, list[Nexus]]:
    """Two platforms that share a store."""
    store = Shared()
    return store, [make(Gives(store), store="shared") for _ in range(2)]


def queue_of(nexus: Nexus) -> int:
    return stage_of(nexus, Stage.SERIAL)._limits.waiting


async def test_no_item_of_a_basket_is_lost(nexus: Nexus) -> None:
    basket(nexus)
    async with nexus:
        view = await nexus.view(Caller())
        session = await view.create_session("python")
        calls = [nexus.invoke(Invocation("put", {"item": n}, session_id=session.id)) for n in range(ITEMS)]
        results = await asyncio.gather(*calls)
        assert (await view.session(session.id)).state == {"basket": list(range(ITEMS))}
    assert [result.value for result in results] == [list(range(n)) for n in range(ITEMS)]


async def test_without_serial_a_change_is_kept_or_refused(nexus: Nexus) -> None:
    @nexus.workflow
    async def put(item: int, context: Context) -> None:
        assert context.session is not None
        items = list(context.session.state.get("basket", []))
        await asyncio.sleep(0)
        context.session.state["basket"] = [*items, item]

    async with nexus:
        view = await nexus.view(Caller())
        session = await view.create_session("python")
        calls = [nexus.invoke(Invocation("put", {"item": n}, session_id=session.id)) for n in range(ITEMS)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        kept = (await view.session(session.id)).state["basket"]
    assert sorted(kept) == [n for n, answer in enumerate(answers) if not isinstance(answer, BaseException)]
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert refused
    assert all(
        isinstance(answer, Conflict) and 'metadata["serial"] = "session"' in answer.message for answer in refused
    )


async def test_two_workflows_of_a_session_wait_for_each_other(nexus: Nexus) -> None:
    basket(nexus)

    @nexus.workflow(serial="session")
    async def double(context: Context) -> None:
        assert context.session is not None
        items = context.session.state.get("basket", [])
        await asyncio.sleep(0)
        context.session.state["basket"] = items * 2

    async with nexus:
        view = await nexus.view(Caller())
        session = await view.create_session("python")
        calls = [Invocation("put", {"item": 1}), Invocation("double", {}), Invocation("put", {"item": 2})]
        for each in calls:
            each.session_id = session.id
        await asyncio.gather(*map(nexus.invoke, calls))
        assert (await view.session(session.id)).state == {"basket": [1, 1, 2]}


async def test_calls_of_a_key_run_in_order_and_other_keys_at_the_same_time(nexus: Nexus) -> None:
    gate = Gate(nexus)
    async with nexus:
        runs = [nexus.submit(call(n)) for n in range(5)]
        await eventually(lambda: queue_of(nexus) == 4)
        other = nexus.submit(call(9, key="b"))
        await eventually(lambda: gate.ran == [0, 9])
        gate.open(6)
        await asyncio.gather(*(run.wait(10) for run in (*runs, other)))
    assert gate.ran == [0, 9, 1, 2, 3, 4]
    assert gate.most == 2


async def test_numbers_and_defaults_are_one_key_in_each_notation(nexus: Nexus) -> None:
    gate = Gate(nexus, serial="n")
    async with nexus:
        runs = [nexus.submit(Invocation("work", params)) for params in ({}, {"n": 0}, {"n": 0.0})]
        await eventually(lambda: queue_of(nexus) == 2)
        gate.open(3)
        await asyncio.gather(*(run.wait(10) for run in runs))
    assert gate.most == 1


async def test_one_call_at_a_time_of_each_caller(nexus: Nexus) -> None:
    gate = Gate(nexus, serial="caller")
    async with nexus:
        ann, bob = Principal("ann"), Principal("bob")
        runs = [nexus.submit(call(n, principal=who)) for n, who in enumerate((ann, ann, bob))]
        await eventually(lambda: gate.ran == [0, 2])
        assert queue_of(nexus) == 1
        gate.open(3)
        await asyncio.gather(*(run.wait(10) for run in runs))
    assert gate.ran == [0, 2, 1]


async def test_calls_without_a_session_do_not_wait(nexus: Nexus) -> None:
    gate = Gate(nexus, serial="session")
    async with nexus:
        runs = [nexus.submit(call(n)) for n in range(3)]
        await eventually(lambda: len(gate.ran) == 3)
        gate.open(3)
        await asyncio.gather(*(run.wait(10) for run in runs))


async def test_a_waiting_run_shows_its_position_and_tells_it(nexus: Nexus) -> None:
    gate = Gate(nexus)
    async with nexus:
        runs = []
        for n in range(3):
            runs.append(nexus.submit(call(n)))
            await eventually(lambda n=n: len(gate.ran) + queue_of(nexus) == n + 1)
        await eventually(lambda: runs[2].status == "blocked")
        view = await nexus.view(Caller())
        shown = [(await view.run(run.id)).to_dict() for run in runs]
        assert [(each["status"], each.get("position")) for each in shown] == [
            ("running", None), ("blocked", 1), ("blocked", 2),
        ]  # fmt: skip
        gate.open()
        await eventually(lambda: gate.ran == [0, 1])
        await eventually(lambda: runs[2].to_dict().get("position") == 1)
        gate.open(2)
        await asyncio.gather(*(run.wait(10) for run in runs))
        assert "position" not in runs[2].to_dict()
    assert [event.type for event in runs[2].events] == ["workflow.queued", "workflow.started", "workflow.completed"]
    assert runs[2].events[0].data == {"position": 2}


async def test_a_waiting_call_can_be_cancelled_and_the_next_one_moves_up(nexus: Nexus) -> None:
    gate = Gate(nexus)
    async with nexus:
        first, second, third = (nexus.submit(call(n)) for n in range(3))
        plain = asyncio.create_task(nexus.invoke(call(3)))
        await eventually(lambda: queue_of(nexus) == 3)
        assert second.cancel()
        with pytest.raises(RunCancelled):
            await second.outcome()
        plain.cancel()
        await asyncio.wait([plain])
        gate.open(2)
        assert [(await run.outcome()).value for run in (first, third)] == [0, 2]
        await eventually(lambda: queue_of(nexus) == 0)
        assert [run.status for run in (first, second, third)] == ["completed", "cancelled", "completed"]
    assert gate.ran == [0, 2]


async def test_waiting_counts_against_the_time_limit(nexus: Nexus) -> None:
    gate = Gate(nexus, timeout=0.3)
    left: list[float | None] = []

    @nexus.workflow(serial="key", timeout=30)
    async def look(context: Context, key: str = "a", seconds: float = 0.0) -> None:
        left.append(context.remaining)
        await asyncio.sleep(seconds)

    async with nexus:
        first = nexus.submit(call())
        await eventually(lambda: gate.ran == [0])
        with pytest.raises(WorkflowTimeout) as error:
            await nexus.invoke(call(1, timeout=0.05))
        assert error.value.details == {"position": 1}
        assert "did not begin" in error.value.message
        await first.wait(10)
        await asyncio.gather(nexus.invoke("look", {"seconds": 0.2}), nexus.invoke("look"))
    assert gate.ran == [0]
    assert left[0] is not None
    assert left[1] is not None
    assert left[1] < 30 - 0.15 < left[0]


async def test_a_full_queue_refuses_and_names_its_limit(make: Any, options: Any) -> None:
    plugins, others = options
    nexus = make(*plugins, max_queued_per_key=2, max_queued_calls=3, **others)
    gate = Gate(nexus)
    async with nexus:
        runs = [nexus.submit(call(n)) for n in range(3)]
        await eventually(lambda: queue_of(nexus) == 2)
        with pytest.raises(Overloaded, match=r"max_queued_per_key \(2\)") as error:
            await nexus.invoke(call(7))
        assert error.value.retry_after
        assert error.value.details == {"limit": "max_queued_per_key", "position": 3}
        runs += [nexus.submit(call(n, key="b")) for n in (10, 11)]
        await eventually(lambda: queue_of(nexus) == 3)
        with pytest.raises(Overloaded, match=r"max_queued_calls \(3\)"):
            await nexus.invoke(call(12, key="b"))
        gate.open(5)
        await asyncio.gather(*(run.wait(10) for run in runs))
        gate.open()
        assert (await nexus.invoke(call(13))).value == 13
    assert sorted(gate.ran) == [0, 1, 2, 10, 11, 13]


async def test_waiting_calls_take_no_place_of_those_that_run(make: Any, options: Any) -> None:
    plugins, others = options
    nexus = make(*plugins, max_concurrent_workflows=2, **others)
    gate = Gate(nexus)
    async with nexus:
        admission = stage_of(nexus, Stage.ADMIT)
        runs = [nexus.submit(call(0))]
        for n in range(1, 4):
            runs.append(nexus.submit(call(n)))
            await eventually(lambda n=n: queue_of(nexus) == n and admission.in_use == 1)
        runs.append(nexus.submit(call(9, key="b")))
        await eventually(lambda: admission.in_use == 2)
        with pytest.raises(Overloaded, match="max_concurrent_workflows"):
            await nexus.invoke(call(5, key="c"))
        gate.open(5)
        await asyncio.gather(*(run.wait(10) for run in runs))
        assert admission.in_use == 0
    assert gate.ran[:2] == [0, 9]
    assert [n for n in gate.ran if n != 9] == [0, 1, 2, 3]
    assert gate.most == 2


async def test_a_call_that_has_its_turn_waits_for_a_place_and_can_be_cancelled_there(make: Any) -> None:
    nexus = make(max_concurrent_workflows=2)
    gate = Gate(nexus)
    async with nexus:
        admission = stage_of(nexus, Stage.ADMIT)
        runs = {key: [nexus.submit(call(n, key=key)) for n in numbers] for key, numbers in {"a": (0, 1)}.items()}
        await eventually(lambda: queue_of(nexus) == 1)
        runs["b"] = [nexus.submit(call(10, key="b"))]
        await eventually(lambda: gate.ran == [0, 10])
        (first, second), (other,) = runs["a"], runs["b"]
        admission._limit = 1  # as if another call had taken the place that the first one leaves
        gate.open()
        assert (await first.outcome()).value == 0
        await eventually(lambda: len(admission._returning) == 1)
        assert (second.status, second.to_dict()["position"]) == ("blocked", 0)
        third = nexus.submit(call(2))
        await third.wait(10)
        assert isinstance(third.error, Overloaded)  # a new call does not come in front of it
        second.cancel()
        await second.wait(10)
        assert second.status == "cancelled"
        gate.open()
        assert (await other.outcome()).value == 10
        assert admission.in_use == 0
        gate.open()
        assert (await nexus.invoke(call(3))).value == 3
    assert gate.ran == [0, 10, 3]


async def test_a_workflow_may_call_another_of_the_same_key(nexus: Nexus) -> None:
    @nexus.workflow(serial="session")
    async def inner(context: Context) -> str:
        return "inner"

    @nexus.workflow
    async def between(context: Context) -> Any:
        assert context.session is not None
        return (await nexus.invoke(Invocation("inner", {}, session_id=context.session.id))).value

    @nexus.workflow(serial="session", timeout=20)
    async def outer(context: Context) -> Any:
        assert context.session is not None
        return (await nexus.invoke(Invocation("between", {}, session_id=context.session.id))).value

    async with nexus:
        session = await (await nexus.view(Caller())).create_session("python")
        calls = [nexus.invoke(Invocation("outer", {}, session_id=session.id)) for _ in range(3)]
        assert [result.value for result in await asyncio.gather(*calls)] == ["inner"] * 3


async def test_a_thread_that_goes_on_after_its_time_limit_keeps_its_turn(nexus: Nexus) -> None:
    ran: list[str] = []

    @nexus.workflow(serial="key")
    def work(key: str, seconds: float = 0.0) -> None:
        time.sleep(seconds)
        ran.append(key)

    async with nexus:
        with pytest.raises(WorkflowTimeout):
            await nexus.invoke(Invocation("work", {"key": "a", "seconds": 0.4}, timeout=0.05))
        assert ran == []
        await nexus.invoke("work", {"key": "a"})
    assert ran == ["a", "a"]


async def test_a_repeat_of_a_key_does_not_wait(nexus: Nexus) -> None:
    gate = Gate(nexus)
    async with nexus:
        gate.open()
        first = await nexus.invoke(call(1, idempotency_key="k"))
        running = nexus.submit(call(2))
        await eventually(lambda: gate.ran == [1, 2])
        again = await nexus.invoke(call(1, idempotency_key="k"))
        assert (again.replayed, again.run_id) == (True, first.run_id)
        with pytest.raises(WorkflowTimeout):  # it never began: the key is free
            await nexus.invoke(call(3, idempotency_key="other", timeout=0.05))
        gate.open(2)
        await running.wait(10)
        assert (await nexus.invoke(call(3, idempotency_key="other"))).value == 3


async def test_stopping_cancels_what_waits(make: Any, options: Any) -> None:
    plugins, others = options
    nexus = make(*plugins, shutdown_grace=0, **others)
    gate = Gate(nexus)
    async with nexus:
        runs = [nexus.submit(call(n)) for n in range(3)]
        await eventually(lambda: queue_of(nexus) == 2)
    assert [run.status for run in runs] == ["cancelled"] * 3
    assert gate.ran == [0]


@pytest.mark.parametrize("wrong", [3, "", ["session"], True])
def test_metadata_that_are_no_text_are_refused(make: Any, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"work: metadata\['serial'\] must be"):
        make().register("work", lambda: 1, {"serial": wrong})


def test_a_parameter_that_is_not_there_is_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"work: metadata\['serial'\] is 'acount'.*'account'"):
        make().register("work", lambda account=1: account, {"serial": "acount"})


async def test_a_workflow_without_it_is_passed_on_as_it_is(nexus: Nexus) -> None:
    nexus.register("work", lambda: 1)
    async with nexus:
        stage = stage_of(nexus, Stage.SERIAL)
        invocation = Invocation("work", {})
        invocation.workflow = nexus.workflows.get("work")
        result = object()
        assert compose([stage], lambda _: result)(invocation) is result  # type: ignore[arg-type,return-value,comparison-overlap]


# Across processes


async def test_two_platforms_keep_every_item_of_a_basket_and_one_order(pair: Any) -> None:
    _, platforms = pair
    for nexus in platforms:
        basket(nexus)
    async with platforms[0], platforms[1]:
        view = await platforms[0].view(Caller())
        session = await view.create_session("python")
        calls = [platforms[n % 2].invoke(Invocation("put", {"item": n}, session_id=session.id)) for n in range(ITEMS)]
        await asyncio.gather(*calls)
        kept = (await view.session(session.id)).state["basket"]
    assert sorted(kept) == list(range(ITEMS))
    assert [n for n in kept if n % 2 == 0] == list(range(0, ITEMS, 2))
    assert [n for n in kept if n % 2] == list(range(1, ITEMS, 2))


async def test_a_queue_is_one_for_two_platforms_in_order_and_bound(make: Any) -> None:
    store = Shared()
    platforms = [make(Gives(store), store="shared", max_queued_per_key=3) for _ in range(2)]
    gates = [Gate(nexus) for nexus in platforms]
    ran = gates[0].ran
    gates[1].ran = ran
    async with platforms[0], platforms[1]:
        runs = []
        for n in range(4):
            runs.append(platforms[n % 2].submit(call(n)))
            await eventually(lambda n=n: len(ran) + sum(map(queue_of, platforms)) == n + 1)
            await eventually(lambda n=n: runs[n].status != "pending")
        assert runs[3].to_dict()["position"] == 3
        with pytest.raises(Overloaded, match="max_queued_per_key"):
            await platforms[1].invoke(call(9))
        for gate in gates:
            gate.open(2)
        await asyncio.gather(*(run.wait(10) for run in runs))
    assert ran == [0, 1, 2, 3]
    assert not [key for key in store._entries if key.startswith("queue:")]


async def test_the_turn_of_a_process_that_died_passes_on(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LIFE_SECONDS", 0.6), ("BEAT_SECONDS", 0.1), ("RETRY_SECONDS", 0.05)):
        monkeypatch.setattr(heartbeat, name, seconds)
    monkeypatch.setattr(shared_queues, "DEATH_SECONDS", 0.1)
    _, (dies, lives) = pair
    gates = [Gate(nexus) for nexus in (dies, lives)]
    async with dies, lives:
        held = dies.submit(call(0))
        await eventually(lambda: gates[0].ran == [0])
        waits = [lives.submit(call(n)) for n in (1, 2)]
        await eventually(lambda: queue_of(lives) == 2)
        await asyncio.sleep(1.0)  # longer than a process counts as alive without a beat
        assert gates[1].ran == []  # its process lives
        stage_of(dies, Stage.SERIAL)._queues._heartbeat._task.cancel()
        await eventually(lambda: gates[1].ran == [1])
        gates[1].open(2)
        await asyncio.gather(*(run.wait(10) for run in waits))
        gates[0].open()
        await held.wait(10)
        gates[1].open()
        assert (await lives.invoke(call(3))).value == 3
    assert gates[1].ran == [1, 2, 3]


async def test_without_the_store_a_call_is_refused_and_a_place_is_given_back_later(pair: Any) -> None:
    store, (nexus, other) = pair
    gates = [Gate(each) for each in (nexus, other)]
    async with nexus, other:
        held = nexus.submit(call(0))
        await eventually(lambda: gates[0].ran == [0])
        waiting = other.submit(call(1))
        await eventually(lambda: queue_of(other) == 1)
        store.is_away = True
        with pytest.raises(BackendUnavailable):
            await nexus.invoke(call(2))
        gates[0].open()
        assert (await held.outcome()).value == 0
        assert gates[1].ran == []
        store.is_away = False
        gates[1].open()
        assert (await waiting.outcome()).value == 1


async def test_a_queue_that_the_store_has_lost_is_made_again(pair: Any) -> None:
    store, (nexus, other) = pair
    gates = [Gate(each) for each in (nexus, other)]
    async with nexus, other:
        held = nexus.submit(call(0))
        await eventually(lambda: gates[0].ran == [0])
        waiting = other.submit(call(1))
        await eventually(lambda: queue_of(other) == 1)
        (line,) = stage_of(other, Stage.SERIAL)._queues._lines.values()
        assert await store.delete(line.key)
        gates[1].open()
        assert (await waiting.outcome()).value == 1  # who held the turn is not known any more
        gates[0].open()
        assert (await held.outcome()).value == 0
