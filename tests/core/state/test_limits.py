"""What one caller may store: one that fills its share is refused, and takes nothing from anybody else."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from nexus_core import Caller, Conflict, Context, Invocation, Principal
from nexus_core.errors import StateLimitReached
from nexus_core.state.limits import CACHED_RESULTS, IDEMPOTENCY_KEYS, SESSIONS
from nexus_core.state.memory_store import MemoryStore
from nexus_core.state.shares import Shares
from nexus_core.state.stores import BoundedStore, scoping

MALLORY = Principal("mallory")
VICTIM = Principal("victim")
STATE = {"note": "x" * 60_000}
LARGE = "x" * 3_500_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="platform")
def platform_fixture(make: Any) -> Any:
    """A platform with a workflow that returns much, and one that lasts until it is let go."""
    nexus = make()
    nexus.gate, nexus.ran = asyncio.Event(), []

    @nexus.workflow
    async def much(n: int) -> str:
        return LARGE

    @nexus.workflow
    async def slow() -> int:
        nexus.ran.append("slow")
        await nexus.gate.wait()
        return len(nexus.ran)

    return nexus


def call(who: Principal, name: str, key: str | None = None, **params: Any) -> Invocation:
    return Invocation(name, params, principal=who, idempotency_key=key)


async def attack_with_sessions(nexus: Any, **who: Any) -> list[str]:
    """Make 1,300 sessions with 60 KB each, and return what was refused."""
    view, refused = await nexus.view(Caller(**who)), []
    for _ in range(1300):
        try:
            session = await view.create_session("python")
            await view.update_session(session.id, STATE)
        except StateLimitReached as exc:
            refused.append(exc.message)
    return refused


async def test_sessions_of_one_caller_end_nobody_elses(platform: Any) -> None:
    async with platform:
        view = await platform.view(Caller(principal=VICTIM))
        session = await view.create_session("python")
        await view.update_session(session.id, {"mine": 1})
        first = platform.submit(call(VICTIM, "slow", "k"))
        await first.started_or_rejected()

        refused = await attack_with_sessions(platform, principal=MALLORY)
        assert len(refused) > 600
        assert "as many sessions as allowed" in refused[0]
        assert "store_caller_max_bytes" in refused[0]
        assert "Delete sessions" in refused[0]
        kept, lost = 0, []
        for number in range(22):
            await platform.invoke(call(MALLORY, "much", f"k{number}", n=number))
        for number in range(22):
            try:
                kept += (await platform.invoke(call(MALLORY, "much", f"k{number}", n=number))).replayed
            except Conflict as exc:
                lost.append(exc)
        assert 0 < kept < 22
        assert kept + len(lost) == 22
        assert "does not run again" in lost[0].message
        assert lost[0].run_id is not None

        assert (await view.session(session.id)).state == {"mine": 1}
        assert (await view.update_session(session.id, {"mine": 2})).state == {"mine": 2}
        assert (await (await platform.view(Caller(principal=VICTIM))).create_session("python")).id
        with pytest.raises(Conflict, match="still running"):
            await platform.invoke(call(VICTIM, "slow", "k"))
        platform.gate.set()
        await first.wait()
        assert (await platform.invoke(call(VICTIM, "slow", "k"))).replayed
        assert platform.ran == ["slow"]


async def test_callers_without_a_name_are_told_apart_by_their_address(platform: Any) -> None:
    async with platform:
        assert await attack_with_sessions(platform, client_address="2001:db8::1")
        for mine, others in (("2001:db8::2", False), ("2001:db8:1::1", True), ("10.0.0.1", True)):
            view = await platform.view(Caller(client_address=mine))
            if others:
                session = await view.create_session("python")
                await view.update_session(session.id, STATE)
            else:
                with pytest.raises(StateLimitReached):
                    await view.update_session((await view.create_session("python")).id, STATE)


async def test_what_ends_makes_room_for_its_caller(make: Any) -> None:
    nexus = make(store_caller_max_bytes=200_000)
    async with nexus:
        view = await nexus.view(Caller(principal=MALLORY))
        sessions = [await view.create_session("python") for _ in range(3)]
        for session in sessions:
            await view.update_session(session.id, STATE)
        fourth = await view.create_session("python")
        with pytest.raises(StateLimitReached, match="200000 bytes"):
            await view.update_session(fourth.id, STATE)
        await view.update_session(sessions[0].id, {"note": "y" * 60_000})  # no larger than before
        await view.remove_session(sessions[0].id)
        await view.update_session(fourth.id, STATE)
        with pytest.raises(StateLimitReached):  # for a moment there would be both
            await view.renew_session(sessions[1].id)
        await view.remove_session(sessions[2].id)
        assert (await view.renew_session(sessions[1].id)).state == STATE


async def test_a_workflow_that_stores_too_much_fails_and_its_key_says_so(make: Any) -> None:
    nexus = make(store_caller_max_bytes=5000)

    @nexus.workflow
    async def note(context: Context) -> int:
        assert context.session is not None
        context.session.state["note"] = "x" * 10_000
        return 1

    async with nexus:
        session = await (await nexus.view(Caller())).create_session("python")
        for replayed in (False, True):
            with pytest.raises(StateLimitReached) as caught:
                await nexus.invoke(Invocation("note", {}, session_id=session.id, idempotency_key="k"))
            assert caught.value.details.get("replayed", False) is replayed


async def test_a_caller_whose_keys_are_full_is_refused_before_it_runs(make: Any) -> None:
    nexus = make(store_caller_max_bytes=2000)
    ran = []

    @nexus.workflow
    async def work() -> str:
        ran.append(1)
        return "x" * 500

    async with nexus:
        refused = []
        for number in range(20):
            try:
                await nexus.invoke(call(MALLORY, "work", f"k{number}"))
            except StateLimitReached as exc:
                refused.append((exc.code, exc.status))
        assert 0 < len(ran) < 20
        assert refused == [("state_limit_reached", 429)] * (20 - len(ran))
        await nexus.invoke(call(MALLORY, "work"))
        await nexus.invoke(call(VICTIM, "work", "k"))


async def test_nobody_gets_more_than_is_left_for_all_others() -> None:
    store = MemoryStore(max_bytes=64_000)
    held = []
    for who in range(12):
        scoped, count = store.scoped(SESSIONS, str(who)), 0
        try:
            while True:
                await scoped.set(f"{who:02}{count:04}", b"x" * 94, 60)
                count += 1
        except StateLimitReached:
            held.append(count)
    assert held[0] == 320
    assert held == sorted(held, reverse=True)
    assert held[5] > 0
    assert store.size < 64_000


async def test_what_is_evictable_makes_room_and_the_largest_share_goes_first() -> None:
    store = MemoryStore(max_bytes=10_000)
    cache = {who: store.scoped(CACHED_RESULTS, who) for who in ("many", "few")}
    await cache["few"].set("few", b"x" * 997, 60)
    for number in range(50):
        await cache["many"].set(f"{number:03}", b"x" * 997, 60)
    assert await store.get("few") is not None
    assert len(store) == 10
    await store.scoped(SESSIONS, "ann").set("key", b"x" * 3997, 60)
    assert await store.get("few") is not None
    assert await store.get("key") is not None
    assert [number for number in range(50) if await store.get(f"{number:03}")] == [45, 46, 47, 48, 49]


async def test_what_has_expired_counts_no_longer() -> None:
    clock = Clock()
    store = MemoryStore(max_bytes=1000, clock=clock)
    ann = store.scoped(IDEMPOTENCY_KEYS, "ann")
    for _ in range(20):
        for number in range(4):
            assert await ann.add(str(number), b"x" * 99, 5) is None
        with pytest.raises(StateLimitReached):
            await ann.add("one more", b"x" * 200, 5)
        clock.now += 7
    await ann.set("same", b"x", 5)
    await store.delete("same")
    assert (store.size, len(store)) == (0, 0)


async def test_nothing_is_left_of_what_a_value_was() -> None:
    store = MemoryStore(max_bytes=1000, clock=Clock())
    ann = store.scoped(IDEMPOTENCY_KEYS, "ann")
    tracemalloc.start()
    try:
        await ann.set("same", b"x", 60)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(5000):
            await ann.set("same", b"x" * (number % 100), 60 + number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000  # ten bytes for each change
    await store.delete("same")
    assert (store.size, len(store)) == (0, 0)


async def test_a_value_stays_its_callers_whoever_changes_it() -> None:
    store = MemoryStore(max_bytes=1000)
    await store.scoped(SESSIONS, "ann").set("k", b"1", 60)
    await store.scoped(SESSIONS, "bob").replace("k", b"1", b"2" * 300, 60)
    with pytest.raises(StateLimitReached):
        await store.scoped(SESSIONS, "ann").set("other", b"x" * 300, 60)
    await store.scoped(SESSIONS, "bob").set("another", b"x" * 200, 60)
    await store.set("k", b"3", 60)  # a plain write does not make it evictable
    for number in range(100):
        await store.set(f"loose {number}", b"x" * 50, 60)
    assert await store.get("k") == b"3"
    assert await store.get("another") is not None


def test_a_store_without_limits_is_used_as_it_is() -> None:
    class Plain:
        name = "plain"

    plain: Any = Plain()
    assert scoping(plain)(SESSIONS, "ann") is plain
    assert isinstance(MemoryStore(), BoundedStore)


@pytest.mark.parametrize(
    ("caller", "payer"),
    [
        ({"principal": Principal("ann"), "client_address": "10.0.0.1"}, "user ann"),
        ({"client_address": "10.0.0.1"}, "address 10.0.0.1"),
        ({"client_address": "::ffff:10.0.0.1"}, "address 10.0.0.1"),
        ({"client_address": "2001:db8::7"}, "address 2001:db8::/64"),
        ({"client_address": "a socket"}, "address a%20socket"),
        ({}, ""),
    ],
)
def test_who_pays(caller: Any, payer: str) -> None:
    assert Caller(**caller).payer == payer


async def test_history_goes_from_those_who_have_the_most(make: Any) -> None:
    nexus = make(run_history=20, run_history_bytes=100_000)

    @nexus.workflow
    async def work(size: int) -> str:
        return "x" * size

    async with nexus:
        mine = nexus.submit(Invocation("work", {"size": 1000}, principal=VICTIM))
        await mine.wait()
        for _ in range(50):
            await nexus.submit(Invocation("work", {"size": 10}, principal=MALLORY)).wait()
            await nexus.invoke(Invocation("work", {"size": 10}, principal=MALLORY))
        assert nexus.runs.get(mine.id).result.value == "x" * 1000
        for _ in range(30):
            await nexus.submit(Invocation("work", {"size": 9000}, principal=MALLORY)).wait()
        assert nexus.runs.get(mine.id).result.value == "x" * 1000
        assert len(nexus.runs.find(limit=1000)) == 20
        assert nexus.runs.kept_bytes <= 100_000


def test_shares_know_who_has_the_most() -> None:
    shares = Shares()
    for who, sizes in (("a", [1, 2]), ("b", [100, 1]), ("c", [50])):
        for number, size in enumerate(sizes):
            shares.add(who, f"{who}{number}", size)
    assert (shares.size, shares.count, shares.heaviest().owner) == (154, 5, "b")
    shares.remove(shares.of("b"), "b0")
    assert shares.heaviest().owner == "c"
    for who, key in (("c", "c0"), ("b", "b1"), ("a", "a0"), ("a", "a1")):
        shares.remove(shares.of(who), key)
    assert (shares.size, shares.count, shares._owners) == (0, 0, {})
    assert not any(shares._ranks)
