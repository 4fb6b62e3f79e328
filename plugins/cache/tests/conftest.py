"""Platforms with a cache, alone or on one Redis, whose workflows count how often they run."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

import nexus_cache.plugin
import pytest

from nexus_core import Invocation, Principal
from nexus_core.testing import isolated_nexus


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [each for each in os.environ if each.startswith("NEXUS_") or each == "REDIS_URL"]:
        monkeypatch.delenv(name)


@pytest.fixture(name="make")
def make_fixture():
    """Make a platform with caching on."""

    def make(*plugins, **options):
        return isolated_nexus(nexus_cache.plugin.CachePlugin, *plugins, **{"enable_caching": True} | options)

    return make


@pytest.fixture(name="start")
async def start_fixture(make):
    """Start a platform with caching on, and with a workflow `count` that tells how often it ran."""
    async with AsyncExitStack() as stack:

        async def start(*plugins, **options):
            nexus = make(*plugins, **options)
            nexus.ran = add_count(nexus)
            return await stack.enter_async_context(nexus)

        yield start


@pytest.fixture(name="start_on_redis")
def start_on_redis_fixture(start):
    """Start platforms that keep results in Redis, each with a client of its own."""
    redis = pytest.importorskip("nexus_redis.plugin").RedisPlugin

    async def start_on_redis(url, **options):
        return await start(redis, redis_url=url, **{"cache_backend": "redis", "redis_timeout": 10} | options)

    return start_on_redis


@pytest.fixture(name="add_count")
def add_count_fixture():
    """Register the workflow `count` and return the list of what it was called with."""
    return add_count


@pytest.fixture(name="call")
def call_fixture():
    """Make an invocation."""
    return call


def add_count(nexus, **metadata):
    ran = []

    async def count(n: int = 0, seconds: float = 0.0, fail: bool = False) -> dict:
        ran.append(n)
        await asyncio.sleep(seconds)
        if fail:
            raise RuntimeError("told to")
        return {"n": n, "run": len(ran)}

    nexus.register("count", count, metadata, replace=True)
    return ran


def call(name="count", user=None, *, timeout=None, **params):
    principal = Principal(user) if isinstance(user, str) else user
    return Invocation(name, params, principal=principal, timeout=timeout)
