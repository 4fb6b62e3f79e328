"""Stores on a real server, by way of a proxy that disturbs them."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager

import nexus_redis.plugin
import pytest

from nexus_core import Nexus


@pytest.fixture(autouse=True)
def _no_url_in_the_environment(monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)


@asynccontextmanager
async def running(url, **options):
    async with Nexus(discover=False, plugins=[nexus_redis.plugin.RedisPlugin], redis_url=url, **options) as nexus:
        yield nexus


@pytest.fixture
async def connect():
    """A function that starts a platform with a URL and options and returns its store."""
    async with AsyncExitStack() as stack:

        async def start(url, **options):
            nexus = await stack.enter_async_context(running(url, **{"redis_timeout": 1} | options))
            store = nexus.store("redis", "store")
            store.nexus = nexus
            return store

        yield start


@pytest.fixture
async def store(connect, redis_proxy):
    """A store by way of `redis_proxy`."""
    return await connect(redis_proxy.url)


@pytest.fixture
def seconds():
    """Measure how long something takes that is awaited, and what it raises."""

    async def measure(work):
        begin, error = time.monotonic(), None
        try:
            await work
        except Exception as exc:
            error = exc
        return time.monotonic() - begin, error

    return measure


STEPS = {
    "get": lambda store: store.get("a"),
    "set": lambda store: store.set("a", b"1", 60),
    "add": lambda store: store.add("a", b"2", 60),
    "add anew": lambda store: store.add("new", b"2", 60),
    "replace": lambda store: store.replace("a", b"1", b"2", 60),
    "delete": lambda store: store.delete("a"),
    "delete if": lambda store: store.delete("a", b"1"),
    "fixed": lambda store: store.hit("a", 3, 60, "fixed_window"),
    "moving": lambda store: store.hit("a", 3, 60, "moving_window"),
    "sliding": lambda store: store.hit("a", 3, 60, "sliding_window"),
}


@pytest.fixture
def steps():
    """Every method of a store, by name: functions that take the store."""
    return STEPS
