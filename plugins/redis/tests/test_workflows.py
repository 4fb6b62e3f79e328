"""``redis_pool``: Redis for workflows."""

from __future__ import annotations

import asyncio

import nexus_redis.plugin
import pytest
from redis.exceptions import RedisError

from nexus_core import BackendUnavailable, ConfigurationError, Context, Nexus


@pytest.fixture
def make(redis_server):
    def make(**options):
        given = {"redis_url": redis_server.url, "redis_timeout": 10} | options
        return Nexus(discover=False, plugins=[nexus_redis.plugin.RedisPlugin], **given)

    return make


def numbers(pool):
    return pool.in_use, pool.idle, pool.waiting


def test_without_a_url_there_is_none(make):
    with pytest.raises(ConfigurationError, match=r"and set redis_url\.$"):
        make(redis_url=None).service("redis_pool")


async def test_an_async_and_a_sync_workflow(make):
    nexus = make(redis_pool_size=10, redis_pool_max_connections=50)

    @nexus.workflow
    async def awaited(context: Context) -> str:
        async with context.service("redis_pool").acquire() as redis:
            await redis.set("own:a", "1", ex=60)
            return (await redis.get("own:a")).decode()

    @nexus.workflow
    def threaded(context: Context) -> list:
        with context.service("redis_pool").sync().acquire() as redis:
            with redis.pipeline() as pipeline:
                pipeline.incr("own:a")
                pipeline.incr("own:a")
                counted = pipeline.execute()
            with redis.lock("own:lock", timeout=10):
                held = redis.exists("own:lock")
            return [*counted, held, sorted(key.decode() for key in redis.scan_iter("own:*"))]

    async with nexus:
        pool = nexus.service("redis_pool")
        assert (pool.size, pool.limit) == (10, 50)
        assert numbers(pool) == (0, 0, 0)
        assert (await nexus.invoke("awaited")).value == "1"
        assert (await nexus.invoke("threaded")).value == [2, 3, 1, ["own:a"]]
        assert (pool.in_use, pool.waiting) == (0, 0)
        assert pool.idle >= 1
        read = {each.name: dict(each.read()) for each in nexus.measurements()}
        assert read["nexus_redis_pool_limit"] == {("redis_pool",): 50}
        assert read["nexus_redis_pool_idle"][("redis_pool",)] == pool.idle
    assert numbers(pool) == (0, 0, 0)


async def test_two_hundred_at_once_on_few_connections(make, redis_server):
    nexus = make(redis_pool_size=2, redis_pool_max_connections=4, max_concurrent_workflows=200)

    @nexus.workflow
    async def work(n: int, context: Context) -> int:
        async with context.service("redis_pool").acquire() as redis:
            return int(await redis.echo(str(n)))

    async with nexus:
        before = redis_server.ask("INFO", "clients")["connected_clients"]
        results = await asyncio.gather(*(nexus.invoke("work", {"n": n}) for n in range(200)))
        assert [each.value for each in results] == list(range(200))
        assert redis_server.ask("INFO", "clients")["connected_clients"] <= before + 4


async def test_nobody_waits_longer_than_the_time_limit(make):
    async with make(redis_pool_max_connections=1) as nexus:
        pool = nexus.service("redis_pool")
        async with pool.acquire() as redis:
            pool.timeout = 0.1
            with pytest.raises(BackendUnavailable) as refused:
                async with pool.acquire():
                    pass
            assert await redis.ping()
        assert str(refused.value) == (
            "redis_pool had no free connection within 0.1 seconds (redis_timeout): "
            "all 1 (redis_pool_max_connections) are in use."
        )


async def test_what_workflows_do_holds_up_no_store(make):
    async with make(redis_pool_max_connections=1) as nexus:
        store = nexus.store("redis", "store")
        async with nexus.service("redis_pool").acquire() as redis:
            waiting = asyncio.create_task(redis.blpop("own:never", timeout=600))
            await asyncio.sleep(0)
            for _ in range(5):
                await store.set("a", b"1", 60)
                assert await store.get("a") == b"1"
            assert await store.ready()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def test_a_command_that_is_cancelled_leaves_no_reply_for_the_next(make):
    async with make(redis_pool_max_connections=1) as nexus:
        pool = nexus.service("redis_pool")
        async with pool.acquire() as redis:
            await redis.set("own:a", "right")
            for _ in range(20):
                task = asyncio.create_task(redis.blpop("own:never", timeout=600))
                await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert await redis.get("own:a") == b"right"


async def test_a_server_that_is_killed_and_comes_back(make, redis_server, eventually):
    async with make() as nexus:
        pool = nexus.service("redis_pool")
        async with pool.acquire() as redis:
            assert await redis.ping()
            redis_server.kill()
            with pytest.raises((RedisError, OSError)):
                await redis.ping()
        store = nexus.store("redis", "store")
        await eventually(lambda: store.reason is not None)
        with pytest.raises(BackendUnavailable, match=rf"redis_pool: Redis at 127\.0\.0\.1:{redis_server.port}/0: "):
            async with pool.acquire():
                pass
        redis_server.start()
        await eventually(lambda: store.reason is None)
        async with pool.acquire() as redis:
            assert await redis.ping()


def test_each_start_on_an_event_loop_of_its_own(make):
    nexus = make()

    async def work():
        async with nexus, nexus.service("redis_pool").acquire() as redis:
            return await redis.ping()

    assert [asyncio.run(work()) for _ in range(2)] == [True, True]


async def test_restarts_and_two_platforms(make):
    one, other = make(redis_pool_max_connections=1), make(redis_pool_max_connections=1)
    for _ in range(2):
        async with one, other, one.service("redis_pool").acquire() as a, other.service("redis_pool").acquire() as b:
            assert a is not b
            assert [await a.ping(), await b.ping()] == [True, True]
    with pytest.raises(BackendUnavailable, match="redis_pool is closed"):
        async with one.service("redis_pool").acquire():
            pass


async def test_connections_beyond_the_size_are_closed_when_nobody_needs_them(make, monkeypatch, eventually):
    monkeypatch.setattr("nexus_redis.workflows.TRIM_SECONDS", 0.05)
    async with make(redis_pool_size=1, redis_pool_max_connections=5) as nexus:
        pool = nexus.service("redis_pool")

        async with pool.acquire() as redis:
            every = [await redis.connection_pool.get_connection() for _ in range(5)]
            for each in every:
                each.next_health_check = 0.0  # as after thirty seconds
                await redis.connection_pool.release(each)
        await eventually(lambda: pool.idle == 1)
