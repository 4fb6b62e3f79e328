"""aiocache over Nexus' stores, and Nexus' cache in caches of aiocache."""

from __future__ import annotations

import asyncio
import os
import pickle
import time

import aiocache
import pytest
from aiocache import SimpleMemoryCache, cached
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from aiocache.plugins import HitMissRatioPlugin
from aiocache.serializers import PickleSerializer, StringSerializer
from nexus_cache import MemoryCache, RedisCache, StoreCache
from nexus_cache.aiocaches import AiocacheStore, as_store

from nexus_core import BackendUnavailable
from nexus_core.state.memory_store import MemoryStore
from nexus_core.state.stores import Store
from nexus_core.testing import isolated_nexus


@pytest.fixture(name="store_cache", params=["memory", "redis"])
async def store_cache_fixture(request):
    if request.param == "memory":
        yield StoreCache(MemoryStore())
        return
    plugin = pytest.importorskip("nexus_redis.plugin").RedisPlugin
    server = request.getfixturevalue("redis_server")
    async with isolated_nexus(plugin, redis_url=server.url, redis_timeout=10) as nexus:
        yield StoreCache(nexus.store("redis", "store"))


async def test_a_store_is_a_cache_of_aiocache(store_cache):
    cache = store_cache
    assert await cache.get("k") is None
    assert await cache.get("k", default=1) == 1
    assert await cache.set("k", {"a": [1, None, "ü"]})
    assert await cache.get("k") == {"a": [1, None, "ü"]}
    assert await cache.exists("k")
    with pytest.raises(ValueError, match="already exists"):
        await cache.add("k", 2)
    assert await cache.add("other", 2)
    assert await cache.multi_get(["k", "other", "none"]) == [{"a": [1, None, "ü"]}, 2, None]
    assert await cache.multi_set([("k", 1), ("l", 2)])
    assert await cache.multi_get(["k", "l"]) == [1, 2]
    assert await cache.delete("k") == 1
    assert await cache.delete("k") == 0
    assert not await cache.exists("k")
    with pytest.raises(NotImplementedError, match="does not list its keys"):
        await cache.clear()


async def test_values_expire(store_cache):
    await store_cache.set("k", 1, ttl=0.05)
    await store_cache.set("l", 1, ttl=60)
    await store_cache.set("m", 1)
    assert await store_cache.expire("l", 0.05)
    assert not await store_cache.expire("none", 1)
    await asyncio.sleep(0.1)
    assert await store_cache.multi_get(["k", "l", "m"]) == [None, None, 1]


async def test_numbers_are_counted_once_each(store_cache):
    await asyncio.gather(*(store_cache.increment("n", 2) for _ in range(20)))
    assert await store_cache.get("n") == 40
    await store_cache.set("text", "x")
    with pytest.raises(TypeError):
        await store_cache.increment("text")


async def test_aiocaches_locks_hold(store_cache):
    async with RedLock(store_cache, "k", lease=5):
        assert await store_cache.exists("k-lock")
        with pytest.raises(ValueError, match="already exists"):
            await store_cache.add("k-lock", "mine")
        await store_cache.set("k-lock", "another's")  # as when the lease has run out meanwhile
    assert await store_cache.get("k-lock") == "another's"
    await store_cache.delete("k-lock")
    async with RedLock(store_cache, "k", lease=5):
        assert await store_cache.exists("k-lock")
    assert not await store_cache.exists("k-lock")
    await store_cache.set("k", "once")
    async with OptimisticLock(store_cache, "k") as lock:
        assert await lock.cas("again")
    assert await store_cache.get("k") == "again"
    async with OptimisticLock(store_cache, "k") as lock:
        await store_cache.set("k", "changed")
        with pytest.raises(OptimisticLockError):
            await lock.cas("lost")
    assert await store_cache.get("k") == "changed"


async def test_aiocaches_decorator_works_on_it():
    cache, ran = MemoryCache(), []

    @cached(ttl=10)
    async def work(n):
        ran.append(n)
        return n

    work.cache = cache
    assert [await work(1), await work(1), await work(2)] == [1, 1, 2]
    assert ran == [1, 2]


async def test_what_is_no_text_is_refused():
    cache = StoreCache(MemoryStore(), serializer=aiocache.serializers.NullSerializer())
    with pytest.raises(TypeError, match="holds text and bytes, not a list"):
        await cache.set("k", [1])
    await cache.set("k", "text")
    assert await cache.get("k") == "text"


async def test_the_memory_cache_is_bounded_and_can_be_emptied():
    cache = MemoryCache(max_entries=2, namespace="mine:")
    assert isinstance(cache, SimpleMemoryCache)
    for key in "aba":
        await cache.set(key, 1)
    await cache.set("c", 1)
    assert await cache.multi_get("abc") == [1, None, 1]
    await cache.set("d", 1, namespace="other:")
    assert await cache.clear(namespace="mine:")
    assert await cache.get("a") is None
    assert await cache.get("d", namespace="other:") == 1
    assert await cache.clear()
    assert len(cache.store) == 0
    small = MemoryCache(max_bytes=100)
    await small.set("k", "x" * 200)
    assert await small.get("k") is None


class Slow(SimpleMemoryCache):
    async def _get(self, key, encoding="utf-8", _conn=None):
        await asyncio.sleep(60)


class Broken(SimpleMemoryCache):
    async def _get(self, key, encoding="utf-8", _conn=None):
        raise ConnectionError("secret address")


def redis_cache(url, **options):
    host, port = url.removeprefix("redis://").split("/")[0].split(":")
    return RedisCache(endpoint=host, port=int(port), **options)


@pytest.fixture(name="backend", params=["memory", "bounded", "with plugins", "redis", "pickle", "strings"])
async def backend_fixture(request):
    made = {
        "memory": SimpleMemoryCache,
        "bounded": MemoryCache,
        "with plugins": lambda: MemoryCache(plugins=[HitMissRatioPlugin()], namespace="mine:"),
    }
    if request.param in made:
        yield made[request.param]()
        return
    url = request.getfixturevalue("redis_server").url
    serializers = {"pickle": PickleSerializer(), "strings": StringSerializer()}
    cache = redis_cache(url, namespace="app", serializer=serializers.get(request.param))
    yield cache
    await cache.client.aclose()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_cache_of_aiocache_is_a_store(backend):
    store = as_store(backend, 0.4)
    assert isinstance(store, Store)
    assert await store.get("k") is None
    assert await store.add("k", b'"1"', 60) is None
    assert await store.add("k", b'"2"', 60) == b'"1"'
    assert await store.get("k") == b'"1"'
    assert not await store.replace("k", b'"2"', b'"3"', 60)
    assert await store.replace("k", b'"1"', b'"3"', 60)
    assert not await store.delete("k", b'"1"')
    assert await store.delete("k", b'"3"')
    assert not await store.delete("k")
    await store.set("k", b"{}", 0.05)
    assert await store.get("k") == b"{}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_results_are_kept_in_a_cache_of_aiocache(start, backend, call):
    one, other = await start(cache_backend=backend), await start(cache_backend=backend)
    first = await one.invoke(call())
    assert (await other.invoke(call())).json == first.json
    calls = [nexus.invoke(call(n=1, seconds=0.05)) for nexus in (one, other) for _ in range(20)]
    answers = await asyncio.gather(*calls)
    assert sum(not each.cached for each in answers) == 1
    assert sorted(one.ran + other.ran) == [0, 1]
    assert not (await other.invoke(call(user="ada"))).cached


async def test_without_aiocaches_features_the_store_is_read_directly():
    for plain in (MemoryCache(), StoreCache(MemoryStore())):
        assert as_store(plain, 1) is plain.store
    for used in (MemoryCache(namespace="a"), MemoryCache(timeout=1), MemoryCache(plugins=[HitMissRatioPlugin()])):
        assert isinstance(as_store(used, 1), AiocacheStore)


async def test_plugins_of_aiocache_see_every_read(start, call):
    cache = MemoryCache(plugins=[HitMissRatioPlugin()])
    nexus = await start(cache_backend=cache)
    for _ in range(4):
        await nexus.invoke(call())
    assert cache.hit_miss_ratio["hits"] == 3


async def test_emptying_a_cache_empties_it(start, call):
    cache = MemoryCache()
    nexus = await start(cache_backend=cache)
    assert [(await nexus.invoke(call())).cached for _ in range(2)] == [False, True]
    await cache.clear()
    assert not (await nexus.invoke(call())).cached


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Noting(SimpleMemoryCache):
    """A cache that notes the keys of what is put there."""

    def __init__(self):
        super().__init__()
        self.keys = set()

    async def set(self, key, value, **options):
        self.keys.add(key)
        return await super().set(key, value, **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_pickling_cache_executes_nothing(start, redis_server, call, tmp_path):
    cache = redis_cache(redis_server.url, serializer=PickleSerializer())
    nexus = await start(cache_backend=cache)
    await nexus.invoke(call())
    (key,) = redis_server.ask("KEYS", "*")
    for planted in (pickle.dumps(Planted(tmp_path / "executed")), b"\xff\xfe"):
        redis_server.ask("SET", key, planted)
        assert [(await nexus.invoke(call())).cached for _ in range(2)] == [False, True]
    assert not (tmp_path / "executed").exists()
    await cache.client.aclose()


async def test_what_is_neither_text_nor_bytes_is_a_miss(start, call):
    cache = Noting()
    nexus = await start(cache_backend=cache)
    await nexus.invoke(call())
    (key,) = cache.keys
    for planted in ({"n": 0}, 5, ["result"], "text", "\ud800"):
        await cache.set(key, planted)
        assert [(await nexus.invoke(call())).cached for _ in range(2)] == [False, True]


@pytest.mark.parametrize("broken", [Slow, Broken])
async def test_a_cache_that_hangs_or_raises_is_a_miss_and_told_once(start, broken, call, caplog):
    nexus = await start(cache_backend=broken(), cache_timeout=0.1)
    begin = time.monotonic()
    assert [(await nexus.invoke(call())).cached for _ in range(3)] == [False] * 3
    assert time.monotonic() - begin < 10
    told = [each.getMessage() for each in caplog.records if "is unavailable" in each.getMessage()]
    assert len(told) == 1
    assert "secret" not in told[0]
    with pytest.raises(BackendUnavailable):
        await AiocacheStore(broken(), 0.05).get("k")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_redis_of_aiocaches_that_is_gone_costs_no_more_than_the_time_limit(
    start, redis_server, redis_proxy, call
):
    cache = redis_cache(redis_proxy.url)
    nexus = await start(cache_backend=cache)
    await nexus.invoke(call())
    redis_proxy.mode = "blackhole"
    begin = time.monotonic()
    assert not (await nexus.invoke(call())).cached
    assert 0.3 < time.monotonic() - begin < 10
    redis_proxy.mode = "pass"
    await cache.client.aclose()
