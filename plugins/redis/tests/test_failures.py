"""Redis slow, gone, back, full, or not what it was: always `BackendUnavailable`, soon, and over when it is over."""

from __future__ import annotations

import asyncio
import logging
import random
import time

import nexus_redis.plugin
import pytest

from nexus_core import BackendUnavailable, Nexus
from nexus_core.testing import eventually

LIMIT = 5.0
"""Seconds that calls may wait for a store that does not answer: one time limit, and what a busy machine adds to it."""

AT_ONCE = 0.9
"""Seconds that are less than one time limit."""


@pytest.fixture
def watchful(monkeypatch):
    """Look for what has changed more often than otherwise."""
    monkeypatch.setattr("nexus_redis.client.WATCH_SECONDS", 0.1)
    monkeypatch.setattr("nexus_redis.client.AWAY_SECONDS", 0.1)


def disturbances(proxy, server):
    return {
        "blackhole": lambda: setattr(proxy, "mode", "blackhole"),
        "refuse": lambda: setattr(proxy, "mode", "refuse"),
        "cut": lambda: setattr(proxy, "mode", "cut"),
        "paused": server.pause,
        "killed": server.kill,
    }


def restore(proxy, server):
    server.start()
    server.resume()
    proxy.mode = "pass"


async def works(store):
    try:
        await store.set("works", b"1", 60)
    except BackendUnavailable:
        return False
    return True


async def come_to_work(store, seconds=5.0):
    end = time.monotonic() + seconds
    while not await works(store):
        assert time.monotonic() < end, "it does not work again"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("disturbance", ["blackhole", "refuse", "cut", "paused", "killed"])
async def test_it_fails_soon_then_at_once_and_works_again(
    store, redis_proxy, redis_server, seconds, steps, caplog, disturbance
):
    caplog.set_level(logging.INFO, "nexus_redis")
    await store.set("a", b"1", 60)
    assert await store.ready()
    disturbances(redis_proxy, redis_server)[disturbance]()
    durations = []
    for step in steps.values():
        duration, error = await seconds(step(store))
        assert type(error) is BackendUnavailable
        assert error.retry_after == 1.0
        durations.append(duration)
    assert durations[0] < LIMIT
    assert max(durations[1:]) < AT_ONCE
    assert not await store.ready()
    assert store.reason
    restore(redis_proxy, redis_server)
    await come_to_work(store)
    assert await store.ready()
    told = [record.getMessage() for record in caplog.records]
    assert sum("is unavailable" in line for line in told) == 1
    assert len(told) == 2


async def test_many_calls_at_once_wait_no_longer_than_one(connect, redis_proxy, seconds):
    store = await connect(redis_proxy.url, redis_pool_max_connections=5)
    await store.set("a", b"1", 60)
    redis_proxy.mode = "blackhole"
    answers = await asyncio.gather(*(seconds(store.get("a")) for _ in range(100)))
    assert all(type(error) is BackendUnavailable for _, error in answers)
    assert max(duration for duration, _ in answers) < LIMIT


async def test_who_finds_no_connection_free_is_told_in_time(connect, redis_proxy, seconds):
    store = await connect(redis_proxy.url, redis_pool_max_connections=2)
    await store.set("a", b"1", 60)
    redis_proxy.delay = 0.8
    redis_proxy.mode = "delay"
    answers = await asyncio.gather(*(seconds(store.get("a")) for _ in range(10)))
    assert [type(error) for _, error in answers].count(BackendUnavailable) >= 6
    assert max(duration for duration, _ in answers) < LIMIT
    redis_proxy.mode = "pass"
    await come_to_work(store)
    assert await store.get("a") == b"1"


async def test_a_server_that_takes_its_time_is_waited_for(store, redis_proxy):
    redis_proxy.delay = 0.1
    redis_proxy.mode = "delay"
    await store.set("a", b"1", 60)
    assert await store.get("a") == b"1"


async def test_the_time_limit_is_an_option(connect, redis_proxy, seconds):
    store = await connect(redis_proxy.url, redis_timeout=2)
    redis_proxy.delay = 0.6
    redis_proxy.mode = "delay"
    duration, error = await seconds(store.get("a"))
    assert error is None
    assert duration > 0.6


async def test_it_notices_without_being_asked(watchful, store, redis_proxy):
    redis_proxy.mode = "blackhole"
    await eventually(lambda: store.reason is not None, 5)
    redis_proxy.mode = "pass"
    await eventually(lambda: store.reason is None, 5)


async def test_it_starts_without_a_server_says_so_once_and_finds_it(connect, start_redis, seconds, caplog):
    caplog.set_level(logging.INFO, "nexus_redis")
    server = start_redis()
    server.kill()
    store = await connect(server.url)
    for _ in range(20):
        duration, error = await seconds(store.get("a"))
        assert type(error) is BackendUnavailable
        assert duration < AT_ONCE
    await asyncio.sleep(0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"127.0.0.1:{server.port}/0 is unavailable" in caplog.text
    server.start()
    await come_to_work(store)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_platform_starts_and_stops_again_with_the_same_server(redis_server):
    import nexus_redis.plugin

    from nexus_core import Nexus

    nexus = Nexus(discover=False, plugins=[nexus_redis.plugin.RedisPlugin], redis_url=redis_server.url)
    for number in (b"1", b"2"):
        async with nexus:
            store = nexus.store("redis", "store")
            await store.set("a", number, 60)
            assert await store.get("a") == number
        with pytest.raises(BackendUnavailable):
            await store.get("a")
    assert redis_server.ask("CLIENT", "LIST").count(b"\n") == 1


async def test_a_key_with_a_value_of_another_kind_is_unavailable_and_others_are_not(store, redis_server, steps, caplog):
    redis_server.ask("RPUSH", "nexus:a", "x")
    for name in ("get", "add", "replace", "delete if"):
        with pytest.raises(BackendUnavailable):
            await steps[name](store)
    redis_server.ask("SET", "nexus:moving_window:a", "x")
    with pytest.raises(BackendUnavailable):
        await steps["moving"](store)
    assert await store.ready()
    assert await works(store)
    assert 1 <= caplog.text.count("refused a command") <= 4


async def test_a_server_that_became_a_replica_is_unavailable_until_it_is_no_more(watchful, connect, start_redis, steps):
    server = start_redis()
    store = await connect(server.url)
    await store.set("a", b"1", 60)
    server.ask("REPLICAOF", "127.0.0.1", "1")
    for name in ("set", "replace", "fixed"):
        with pytest.raises(BackendUnavailable):
            await steps[name](store)
    await eventually(lambda: store.reason is not None, 5)
    assert "read only replica" in store.reason
    server.ask("REPLICAOF", "NO", "ONE")
    await come_to_work(store)


async def test_a_server_that_is_full_is_unavailable_until_it_is_not(watchful, connect, start_redis):
    server = start_redis()
    store = await connect(server.url)
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BackendUnavailable):
        await store.set("a", b"1", 60)
    await eventually(lambda: store.reason is not None, 5)
    server.ask("CONFIG", "SET", "maxmemory", "0")
    await come_to_work(store)


async def test_a_server_that_is_loading_is_unavailable_until_it_has_loaded(watchful, connect, start_redis):
    server = start_redis()
    for i in range(150):
        server.ask("SET", f"key {i}", "x" * 200)
    server.ask("SAVE")
    server.kill()
    server.start("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
    store = await connect(server.url)
    assert "loading" in store.reason
    with pytest.raises(BackendUnavailable):
        await store.get("a")
    await come_to_work(store, 10)


async def test_a_server_with_no_place_for_clients_is_unavailable_until_there_is(connect, start_redis):
    server = start_redis("--maxclients", "3")
    store = await connect(server.url)
    answers = await asyncio.gather(*(store.get("a") for _ in range(20)), return_exceptions=True)
    assert {type(answer) for answer in answers} <= {type(None), BackendUnavailable}
    assert BackendUnavailable in {type(answer) for answer in answers}
    await come_to_work(store)


async def test_a_cancelled_command_leaves_its_reply_to_nobody(connect, redis_proxy):
    store = await connect(redis_proxy.url, redis_pool_max_connections=4, redis_timeout=10)
    for i in range(50):
        await store.set(f"key {i}", f"value {i}".encode(), 60)
    redis_proxy.delay = 0.002
    redis_proxy.mode = "delay"
    dice = random.Random(4711)
    got = []

    async def read(i):
        got.append((i, await store.get(f"key {i}")))

    for _ in range(12):
        tasks = [asyncio.create_task(read(dice.randrange(50))) for _ in range(40)]
        for task in dice.sample(tasks, 30):
            await asyncio.sleep(dice.random() * 0.002)
            task.cancel()
        await asyncio.wait(tasks, timeout=20)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
    assert len(got) > 100
    assert [pair for pair in got if pair[1] != f"value {pair[0]}".encode()] == []
    idle, in_use = store.client.connections()
    assert in_use == 0
    assert idle <= 4


async def test_a_reply_that_comes_too_late_is_nobodys(connect, redis_proxy):
    store = await connect(redis_proxy.url, redis_pool_max_connections=1)
    await store.set("a", b"a", 60)
    await store.set("b", b"b", 60)
    redis_proxy.mode = "blackhole"
    with pytest.raises(BackendUnavailable):
        await store.get("a")
    redis_proxy.mode = "pass"  # what was sent and the reply to it arrive now
    await come_to_work(store)
    assert await store.get("b") == b"b"


async def test_under_load_each_call_ends_in_time_with_its_own_reply_whatever_happens(
    store, redis_proxy, redis_server, seconds
):
    stop, worst, wrong = False, 0.0, []

    async def call(i):
        nonlocal worst
        while not stop:
            key = f"key {i}"

            async def both(key=key):
                await store.set(key, key.encode(), 60)
                if (value := await store.get(key)) not in (key.encode(), None):
                    wrong.append((key, value))

            duration, error = await seconds(both())
            worst = max(worst, duration)
            assert error is None or type(error) is BackendUnavailable
            await asyncio.sleep(0.001)

    callers = [asyncio.create_task(call(i)) for i in range(20)]
    for disturbance in disturbances(redis_proxy, redis_server).values():
        disturbance()
        await eventually(lambda: store.reason is not None, 5)
        begin = time.monotonic()
        restore(redis_proxy, redis_server)
        await eventually(lambda: store.reason is None, 5)
        assert time.monotonic() - begin < 5
    stop = True
    await asyncio.gather(*callers)
    assert wrong == []
    assert worst < 2 * LIMIT


@pytest.mark.parametrize("store", ["redis", "memory"])
async def test_a_health_check_says_where_redis_is_and_why_it_is_not_there(watchful, start_redis, store):
    server = start_redis(password="of the server")
    async with Nexus(
        discover=False, plugins=[nexus_redis.plugin.RedisPlugin], redis_url=server.url, store=store
    ) as nexus:
        (check,) = nexus.health_checks()
        assert (check.name, check.is_critical) == ("redis", store == "redis")
        assert await check.check() == {"server": f"127.0.0.1:{server.port}/0"}
        server.kill()
        with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{server.port}/0: .+") as away:
            await check.check()
        assert "of the server" not in str(away.value)
        server.start()
        client = nexus.store("redis", "store").client
        await eventually(lambda: client.reason is None)
        assert await check.check()


async def test_there_is_no_health_check_where_there_is_no_redis():
    async with Nexus(discover=False, plugins=[nexus_redis.plugin.RedisPlugin]) as nexus:
        assert nexus.health_checks() == []
