"""Platforms with a breaker, and with breakers that share their circuits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import nexus_breaker.plugin
import nexus_redis.plugin
import pytest

from nexus_core import CircuitOpen, Nexus, NexusError, Stage
from nexus_core.testing import eventually, stage_of


class Shop:
    """A platform with one workflow that does what it is told, and counts."""

    def __init__(self, nexus):
        self.nexus = nexus
        self.ran = 0
        self.error = None
        self.gate = None
        self.metadata = {}

    def register(self, name="order", **metadata):
        async def order(n: int = 0) -> str:
            self.ran += 1
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            return "ordered"

        self.nexus.register(name, order, metadata, replace=True)

    async def call(self, name="order", **params):
        """What becomes of a call: its result, or the class of its error."""
        try:
            return (await self.nexus.invoke(name, params)).value
        except NexusError as exc:
            return type(exc)

    async def fail(self, times, name="order"):
        error, self.error = self.error, RuntimeError("broken")
        answers = [await self.call(name) for _ in range(times)]
        self.error = error
        return answers

    async def is_open(self, name="order"):
        return await self.call(name) is CircuitOpen

    async def look(self, name="order"):
        """Let the platform's copy of a circuit be what the store has."""
        breaker = stage_of(self.nexus, Stage.BREAKER)
        workflow = self.nexus.workflows.get(name)
        await breaker.circuit_of(workflow).refresh()

    async def probe(self, name="order"):
        """Call until a call gets through and waits at the gate; return its task."""
        self.gate, ran = asyncio.Event(), self.ran
        async with asyncio.timeout(10):
            while True:
                call = asyncio.create_task(self.call(name))
                await eventually(lambda call=call: call.done() or self.ran > ran)
                if not call.done():
                    return call
                await asyncio.sleep(0.01)


@pytest.fixture
async def open_shop():
    """A function that starts a platform with options and returns its `Shop`."""
    async with AsyncExitStack() as stack:

        async def start(*plugins, register=True, **options):
            options = {"enable_circuit_breaker": True, "circuit_breaker_reset_timeout": 60} | options
            nexus = Nexus(discover=False, plugins=[nexus_breaker.plugin.BreakerPlugin, *plugins], **options)
            shop = Shop(nexus)
            if register:
                shop.register()
            await stack.enter_async_context(nexus)
            return shop

        yield start


@pytest.fixture
async def shop(open_shop):
    return await open_shop()


@pytest.fixture
def open_shared(open_shop, redis_server):
    """A function that starts a platform whose circuits are in the Redis of the tests."""

    async def start(**options):
        return await open_shop(
            nexus_redis.plugin.RedisPlugin,
            redis_url=redis_server.url,
            store="redis",
            event_backend="memory",
            **{"redis_timeout": 10} | options,
        )

    return start


@pytest.fixture
def comes_to():
    """Wait until awaiting something gives a value."""

    async def wait(make, value, seconds=10.0):
        async with asyncio.timeout(seconds):
            while await make() != value:
                await asyncio.sleep(0.02)

    return wait
