"""What a store does, the one in memory and the one in Redis alike; each step is one round trip."""

from __future__ import annotations

import asyncio

import pytest

from nexus_core.state.memory_store import MemoryStore
from nexus_core.state.stores import CountingStore, Store
from nexus_core.testing import eventually

BYTES = bytes(range(256)) * 4


@pytest.fixture
async def store(connect, redis_proxy):
    """A store with patience: a busy machine may need more than the time that calls get."""
    return await connect(redis_proxy.url, redis_timeout=10)


@pytest.fixture(params=["memory", "redis"])
def any_store(request):
    return MemoryStore() if request.param == "memory" else request.getfixturevalue("store")


def test_it_is_a_store_that_counts(store):
    assert isinstance(store, Store)
    assert isinstance(store, CountingStore)
    assert store.name == "redis"


async def test_a_value_is_there_until_it_is_deleted(any_store):
    assert await any_store.get("a") is None
    await any_store.set("a", BYTES, 60)
    await any_store.set("b", b"", 60)
    assert await any_store.get("a") == BYTES
    assert await any_store.get("b") == b""
    assert await any_store.delete("a")
    assert not await any_store.delete("a")
    assert await any_store.get("a") is None


async def test_a_value_is_there_until_its_time_has_come(any_store):
    for ttl in (0.05, 60):
        await any_store.set(f"set {ttl}", b"1", ttl)
        await any_store.add(f"add {ttl}", b"1", ttl)
        await any_store.set(f"replace {ttl}", b"1", 60)
        await any_store.replace(f"replace {ttl}", b"1", b"2", ttl)
    gone = []

    async def look():
        while len(gone) < 3:
            gone[:] = [way for way in ("set", "add", "replace") if await any_store.get(f"{way} 0.05") is None]
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 5)
    assert all([await any_store.get(f"{way} 60") for way in ("set", "add", "replace")])


async def test_only_the_first_adds(any_store):
    answers = await asyncio.gather(*(any_store.add("a", str(i).encode(), 60) for i in range(20)))
    assert answers.count(None) == 1
    winner = str(answers.index(None)).encode()
    assert set(answers) == {None, winner}
    assert await any_store.get("a") == winner


async def test_only_what_is_as_expected_is_replaced(any_store):
    assert not await any_store.replace("a", b"", b"1", 60)
    await any_store.set("a", BYTES, 60)
    assert not await any_store.replace("a", b"other", b"1", 60)
    assert await any_store.replace("a", BYTES, BYTES + b"!", 60)
    assert await any_store.get("a") == BYTES + b"!"
    answers = await asyncio.gather(
        *(any_store.replace("a", BYTES + b"!", str(i).encode(), 60) for i in range(20)),
    )
    assert answers.count(True) == 1
    assert await any_store.get("a") == str(answers.index(True)).encode()


async def test_only_what_is_as_expected_is_deleted(any_store):
    assert not await any_store.delete("a", b"1")
    await any_store.set("a", b"1", 60)
    assert not await any_store.delete("a", b"2")
    assert await any_store.delete("a", b"1")
    assert await any_store.get("a") is None


@pytest.mark.parametrize("key", ["", "ä\n\0 %s {x}", "\ud800", "k" * 5000])
async def test_any_text_is_a_key(any_store, key):
    await any_store.set(key, b"1", 60)
    assert await any_store.get(key) == b"1"
    assert await any_store.get(key + "x") is None


async def test_every_key_begins_with_the_prefix(connect, redis_server):
    store = await connect(redis_server.url, redis_key_prefix="shop:")
    await store.set("a", b"1", 60)
    await store.hit("a", 1, 60, "fixed_window")
    assert all(key.startswith(b"shop:") for key in redis_server.ask("KEYS", "*"))
    other = await connect(redis_server.url)
    assert await other.get("a") is None


async def test_each_step_is_one_round_trip(connect, redis_proxy, monkeypatch, steps):
    monkeypatch.setattr("nexus_redis.client.WATCH_SECONDS", 3600)
    store = await connect(redis_proxy.url)
    trips = {}
    for name, step in steps.items():
        for _ in range(2):  # the first may have to give the server its script
            await store.set("a", b"1", 60)
            before = redis_proxy.requests
            await step(store)
        trips[name] = redis_proxy.requests - before
    assert set(trips.values()) == {1}
    assert len(trips) == 10


async def test_a_server_that_has_forgotten_the_scripts_gets_them_again(store, redis_server, steps):
    for name in ("replace", "delete if", "fixed", "moving", "sliding"):
        await store.set("a", b"1", 60)
        redis_server.ask("SCRIPT", "FLUSH")
        assert await steps[name](store)


async def test_values_are_stored_as_they_are(store, redis_server):
    await store.set("a", BYTES, 60)
    assert redis_server.ask("GET", "nexus:a") == BYTES
    assert 59_000 < redis_server.ask("PTTL", "nexus:a") <= 60_000


async def test_connections_are_bounded_and_close_when_they_are_idle(connect, redis_proxy, redis_server, monkeypatch):
    monkeypatch.setattr("nexus_redis.pools.IDLE_SECONDS", 1)
    store = await connect(redis_proxy.url, redis_pool_size=2, redis_pool_max_connections=5)

    def connections():
        return redis_server.ask("CLIENT", "LIST").count(b"cmd=get")

    await asyncio.gather(*(store.get("a") for _ in range(200)))
    assert redis_proxy.connections == 1 + 5
    assert connections() == 5
    await eventually(lambda: connections() == 2, 10)
    assert await store.get("a") is None
