"""Pools of connections, and a cache that knows what is worth keeping."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
from guide_callers import CHANNELS, Client
from guide_text import run, served

from nexus_core import Context, Nexus

POOLS, CACHE = "Connection Pooling", "Caching Strategies"


@pytest.fixture
def pooled(with_redis: Any, with_postgres: Any, environment: Any) -> Nexus:
    environment(postgres_url=f"postgresql://user:pass@127.0.0.1:{with_postgres.port}/nexus")
    space = run(POOLS)
    nexus: Nexus = space["nexus"]
    assert space["ConnectionPool"].acquire is type(nexus.service("db_pool")).acquire  # one form for all pools

    @nexus.workflow
    async def query(context: Context) -> int:
        async with context.service("db_pool").acquire() as connection:
            return int(await connection.fetchval("SELECT 41 + 1"))

    @nexus.workflow
    async def count(context: Context) -> int:
        async with context.service("redis_pool").acquire() as redis:
            return int(await redis.incr("the guide's count"))

    return nexus


async def test_workflows_on_every_channel_use_the_pools(pooled: Nexus) -> None:
    async with served(pooled) as urls:
        for number, channel in enumerate(CHANNELS, 1):
            assert (await Client(urls).call(channel, "query", {})).result == 42
            assert (await Client(urls).call(channel, "count", {})).result == number
        pool = pooled.service("db_pool")
        assert (pool.limit, pool.size, pool.timeout) == (100, 20, 30)
        assert pool.idle == 1  # three calls, one connection
        http = pooled.service("http_pool")
        assert (http.limit, http.size, http.timeout) == (200, 50, 15)
        redis = pooled.service("redis_pool")
        assert (redis.limit, redis.size) == (50, 10)


@pytest.fixture
def cached(with_redis: Any) -> Nexus:
    nexus: Nexus = run(CACHE, hashlib=hashlib, json=json)["nexus"]
    nexus.ran = []  # type: ignore[attr-defined]
    for name in ("data_analysis", "greeting"):

        def work(value: int = 0, user_id: str | None = None, name: str = name) -> int:
            nexus.ran.append(name)  # type: ignore[attr-defined]
            return value

        nexus.register(name, work)
    return nexus


async def test_what_is_expensive_is_kept_under_the_managers_key(cached: Nexus, with_redis: Any) -> None:
    async with served(cached) as urls:
        for channel in CHANNELS:
            assert (await Client(urls).call(channel, "data_analysis", {"value": 7})).result == 7
        assert cached.ran == ["data_analysis"]  # type: ignore[attr-defined]
        keys = [bytes(key).decode(errors="replace") for key in with_redis.ask("KEYS", "*")]
        (kept,) = [key for key in keys if "cache" in key]
        assert 3_500_000 < int(with_redis.ask("PTTL", kept)) <= 3_600_000  # cache_ttl


async def test_the_managers_key_decides_what_is_the_same(with_redis: Any) -> None:
    one_for_all = SimpleNamespace(md5=lambda _: hashlib.md5(b"the same"))
    nexus: Nexus = run(CACHE, hashlib=one_for_all, json=json)["nexus"]
    nexus.register("data_analysis", lambda value: value)
    async with served(nexus) as urls:
        given = [
            (await Client(urls).call(channel, "data_analysis", {"value": n})).result
            for n, channel in enumerate(CHANNELS)
        ]
    assert given == [0, 0, 0]


async def test_what_is_cheap_or_a_users_own_is_not(cached: Nexus) -> None:
    async with served(cached) as urls:
        for _ in range(2):
            assert "cached" not in (await Client(urls).api("greeting", {"value": 1})).reply
            assert "cached" not in (await Client(urls).api("data_analysis", {"value": 1, "user_id": "ada"})).reply
    assert cached.ran == ["greeting", "data_analysis"] * 2  # type: ignore[attr-defined]
