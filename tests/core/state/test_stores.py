"""The store in memory against a dictionary with times, and its bounds."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nexus_core.state.memory_store import MemoryStore
from nexus_core.state.stores import Store, choose_store

KEYS = st.sampled_from(["a", "b", "c", "longer", "d" * 40])
VALUES = st.sampled_from([b"", b"1", b"2", b"x" * 20, b"y" * 50, b"z" * 60, b"w" * 101, b"v" * 10_000])
TTLS = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 10.0, 1e9, math.inf, math.nan])


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(step: Any) -> Any:
    """Take the one step that a coroutine of the store has: it never waits."""
    with pytest.raises(StopIteration) as ended:
        step.send(None)
    return ended.value.value


class Model:
    """What `Store` says, with the bounds of `MemoryStore`, in the plainest way."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self.kept: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # what was used longest ago comes first

    def size(self) -> int:
        return sum(len(key) + len(value) for key, (value, _) in self.kept.items())

    def get(self, key: str, now: float) -> bytes | None:
        value, end = self.kept.get(key, (None, math.inf))
        if now >= end:
            del self.kept[key]
            return None
        if value is not None:
            self.kept.move_to_end(key)
        return value

    def set(self, key: str, value: bytes, ttl: float, now: float) -> None:
        self.kept.pop(key, None)
        if ttl > 0 and len(key) + len(value) <= self.max_bytes:
            self.kept[key] = (value, now + ttl)
        while len(self.kept) > self.max_entries or self.size() > self.max_bytes:
            self.kept.popitem(last=False)


class MemoryStoreMachine(RuleBasedStateMachine):
    """Both do the same things at the same times, and answer alike."""

    @initialize(entries=st.sampled_from([0, 1, 2, 3, 100]), size=st.sampled_from([0, 1, 60, 100, 100_000]))
    def make(self, entries: int, size: int) -> None:
        self.clock = Clock()
        self.store = MemoryStore(entries, size, self.clock)
        self.model = Model(entries, size)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 9.0, 1e6]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert run(self.store.get(key)) == self.model.get(key, self.clock.now)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def set(self, key: str, value: bytes, ttl: float) -> None:
        run(self.store.set(key, value, ttl))
        self.model.set(key, value, ttl, self.clock.now)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def add(self, key: str, value: bytes, ttl: float) -> None:
        there = self.model.get(key, self.clock.now)
        assert run(self.store.add(key, value, ttl)) == there
        if there is None:
            self.model.set(key, value, ttl, self.clock.now)

    @rule(key=KEYS, old=VALUES, new=VALUES, ttl=TTLS)
    def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> None:
        fits = self.model.get(key, self.clock.now) == old
        assert run(self.store.replace(key, old, new, ttl)) is fits
        if fits:
            self.model.set(key, new, ttl, self.clock.now)

    @rule(key=KEYS, value=st.none() | VALUES)
    def delete(self, key: str, value: bytes | None) -> None:
        there = self.model.get(key, self.clock.now)
        goes = there is not None and value in (None, there)
        assert run(self.store.delete(key, value)) is goes
        if goes:
            del self.model.kept[key]

    @rule(prefix=st.sampled_from(["", "a", "d", "q"]))
    def clear(self, prefix: str) -> None:
        self.store.clear(prefix)
        for key in [key for key in self.model.kept if key.startswith(prefix)]:
            del self.model.kept[key]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.store) == len(self.model.kept)
        assert self.store.size == self.model.size()
        assert len(self.store) <= self.model.max_entries
        assert self.store.size <= self.model.max_bytes


TestMemoryStore = MemoryStoreMachine.TestCase
TestMemoryStore.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


async def test_a_value_larger_than_the_store_drives_nobody_out_and_leaves_nothing_old() -> None:
    store = MemoryStore(max_bytes=100)
    await store.set("small", b"1", 60)
    await store.set("k", b"old", 60)
    await store.set("k", b"x" * 100, 60)
    assert await store.get("k") is None
    assert await store.get("small") == b"1"


@pytest.mark.parametrize("ttl", [0, -1, math.nan])
async def test_what_lives_for_no_time_drives_nobody_out(ttl: float) -> None:
    store = MemoryStore(max_entries=1)
    await store.set("a", b"1", 60)
    assert await store.add("b", b"2", ttl) is None
    assert await store.get("b") is None
    assert await store.get("a") == b"1"
    await store.set("a", b"2", ttl)
    assert await store.get("a") is None


async def test_values_of_the_largest_size_fit_one_at_a_time() -> None:
    store = MemoryStore(max_bytes=64 * 1024 * 1024)
    large = bytes(64 * 1024 * 1024 - 1)
    await store.set("a", large, 60)
    await store.set("b", large, 60)
    assert await store.get("a") is None
    assert await store.get("b") is large
    assert len(store) == 1


async def test_keys_count_too() -> None:
    store = MemoryStore(max_bytes=1000)
    for number in range(100):
        await store.set(f"{number:0100}", b"", 60)
    assert len(store) == 10


async def test_an_empty_value_is_a_value() -> None:
    store = MemoryStore()
    assert await store.add("k", b"", 60) is None
    assert await store.add("k", b"other", 60) == b""
    assert await store.replace("k", b"", b"new", 60)
    assert not await store.delete("k", b"")
    assert await store.delete("k", b"new")


async def test_time_is_measured_by_a_clock_that_never_goes_back() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await store.set("k", b"1", 5)
    clock.now += 4.999
    assert await store.get("k") == b"1"
    clock.now += 0.001
    assert await store.get("k") is None
    assert len(store) == 0


def test_stores_are_chosen_by_name() -> None:
    memory = MemoryStore()
    assert isinstance(memory, Store)
    assert choose_store([memory], "memory", "store") is memory
