"""What one caller may store in Redis: counted by all processes together, in memory alike."""

from __future__ import annotations

import asyncio

import pytest

from nexus_core import Caller, Invocation, Principal
from nexus_core.errors import StateLimitReached
from nexus_core.state.limits import CACHED_RESULTS, IDEMPOTENCY_KEYS, SESSIONS
from nexus_core.state.stores import BoundedStore


@pytest.fixture
async def store(connect, redis_proxy):
    limits = {"redis_caller_max_entries": 5, "redis_caller_max_bytes": 1000}
    return await connect(redis_proxy.url, redis_timeout=10, **limits)


async def held(store, kind, owner):
    """What Redis has of a caller: how many values, and their sizes; and the same once more by counting."""
    scoped = store.scoped(kind, owner)
    sizes = await store.client.execute("HGETALL", scoped.keys[1])
    sizes = dict(zip(sizes[::2], map(int, sizes[1::2]), strict=True))
    total = sizes.pop(b"", 0)
    count = await store.client.execute("ZCARD", scoped.keys[0])
    assert (len(sizes), sum(sizes.values())) == (count, total)
    return count, total - count * len(store.client.prefix)


async def test_a_caller_has_so_many_and_others_theirs(store):
    assert isinstance(store, BoundedStore)
    ann, bob = (store.scoped(SESSIONS, who) for who in ("ann", "bob"))
    for number in range(5):
        await ann.set(f"a{number}", b"x", 60)
    with pytest.raises(StateLimitReached, match=r"sessions .* 5 \(redis_caller_max_entries\)"):
        await ann.set("one more", b"x", 60)
    assert await store.get("one more") is None
    assert await ann.add("a0", b"y", 60) == b"x"
    with pytest.raises(StateLimitReached):
        await ann.add("one more", b"y", 60)
    await bob.set("b", b"x", 60)
    await store.scoped(IDEMPOTENCY_KEYS, "ann").set("k", b"x", 60)
    await store.scoped(CACHED_RESULTS, "ann").set("cached", b"x" * 10_000, 60)
    assert await ann.delete("a0")
    assert not await ann.delete("a0")
    assert await ann.add("one more", b"x", 60) is None
    assert await held(store, SESSIONS, "ann") == (5, 4 * 3 + 9)
    assert await held(store, SESSIONS, "bob") == (1, 2)


async def test_a_caller_has_so_many_bytes(store):
    ann = store.scoped(SESSIONS, "ann")
    await ann.set("a", b"x" * 400, 60)
    await ann.set("b", b"x" * 400, 60)
    with pytest.raises(StateLimitReached, match=r"1000 bytes \(redis_caller_max_bytes\)"):
        await ann.replace("a", b"x" * 400, b"y" * 700, 60)
    assert await ann.get("a") == b"x" * 400
    assert not await ann.replace("a", b"other", b"y", 60)
    assert await ann.replace("a", b"x" * 400, b"y" * 400, 60)  # no larger
    assert await ann.replace("a", b"y" * 400, b"y", 60)
    assert await ann.replace("b", b"x" * 400, b"x" * 700, 60)
    assert not await ann.delete("b", b"other")
    assert await ann.delete("b", b"x" * 700)
    assert await held(store, SESSIONS, "ann") == (1, 2)


async def test_what_has_expired_counts_no_longer(store, redis_server):
    ann = store.scoped(SESSIONS, "ann")
    for number in range(5):
        await ann.set(f"a{number}", b"x", 0.05)
    async with asyncio.timeout(10):
        while await store.get("a4") is not None:
            await asyncio.sleep(0.01)
        while True:
            try:
                await ann.set("later", b"x", 60)
                break
            except StateLimitReached:
                await asyncio.sleep(0.01)
    assert await held(store, SESSIONS, "ann") == (1, 6)
    assert 0 < await store.client.execute("PTTL", ann.keys[1]) <= 60_000


async def test_processes_count_together(connect, redis_proxy):
    options = {"redis_timeout": 10, "redis_caller_max_entries": 50}
    stores = [await connect(redis_proxy.url, **options) for _ in range(2)]

    async def put(number):
        try:
            await stores[number % 2].scoped(SESSIONS, "ann").set(f"a{number}", b"x", 60)
        except StateLimitReached:
            return 0
        return 1

    assert sum(await asyncio.gather(*(put(number) for number in range(100)))) == 50


async def test_sessions_and_keys_have_limits_there(connect, redis_proxy):
    options = {"redis_timeout": 10, "redis_caller_max_entries": 20, "store": "redis"}
    store = await connect(redis_proxy.url, **options)
    nexus = store.nexus

    @nexus.workflow
    async def work() -> int:
        return 1

    mallory, victim = [await nexus.view(Caller(principal=Principal(who))) for who in ("m", "v")]
    session = await victim.create_session("python")
    made = [await mallory.create_session("python") for _ in range(20)]
    with pytest.raises(StateLimitReached):
        await mallory.create_session("python")
    for number in range(20):
        await nexus.invoke(Invocation("work", {}, principal=Principal("m"), idempotency_key=str(number)))
    with pytest.raises(StateLimitReached):
        await nexus.invoke(Invocation("work", {}, principal=Principal("m"), idempotency_key="more"))
    assert (await nexus.invoke(Invocation("work", {}, principal=Principal("m"), idempotency_key="3"))).replayed
    await mallory.update_session(made[0].id, {"a": 1})
    await mallory.remove_session(made[0].id)
    await mallory.create_session("python")
    assert (await victim.update_session(session.id, {"a": 1})).state == {"a": 1}
    await victim.create_session("python")
    await nexus.invoke(Invocation("work", {}, principal=Principal("v"), idempotency_key="k"))
