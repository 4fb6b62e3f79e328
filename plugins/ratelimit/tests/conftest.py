"""Platforms with limits, and callers of them."""

from __future__ import annotations

from contextlib import AsyncExitStack

import nexus_ratelimit.plugin
import nexus_redis.plugin
import pytest

from nexus_core import AuthenticationError, Invocation, Nexus, NexusError, RateLimited, Stage, hookimpl
from nexus_core.types.principal import Principal

ADDRESS = "203.0.113.5"


class Platform:
    """A platform with two workflows, and a way to call them as somebody."""

    def __init__(self, nexus):
        self.nexus = nexus
        self.ran = 0

    def register(self, name="order", **metadata):
        async def order() -> str:
            self.ran += 1
            return "ordered"

        self.nexus.register(name, order, metadata, replace=True)

    async def call(self, name="order", *, user=None, address=ADDRESS, **members):
        """What becomes of a call: its invocation, and its error if there is one."""
        principal = None if user is None else Principal(user)
        invocation = Invocation(name, {}, members.pop("channel", "api"), principal=principal, **members)
        invocation.client_address = address
        try:
            await self.nexus.invoke(invocation)
        except NexusError as exc:
            return invocation, exc
        return invocation, None

    async def passes(self, name="order", **who):
        """Whether a call is let through."""
        _, error = await self.call(name, **who)
        assert error is None or isinstance(error, RateLimited), error
        return error is None

    async def count(self, times, name="order", **who):
        """How many of so many calls are let through."""
        return sum([await self.passes(name, **who) for _ in range(times)])


class Door:
    """Authentication by a word, which is the user's name: ``good ...`` is accepted, anything else is not."""

    stage = Stage.AUTHENTICATE

    def __init__(self):
        self.asked = 0
        self.revoked = set()

    @hookimpl
    def nexus_register_interceptors(self, nexus):
        return [self]

    async def __call__(self, invocation, call_next):
        self.asked += 1
        key = (invocation.headers or {}).get(b"x-api-key", b"").decode()
        word = (invocation.credentials or {}).get("authorization") or key
        if not word.startswith("good") or word in self.revoked:
            raise AuthenticationError("The credential is not accepted.")
        invocation.principal = Principal(word)
        return await call_next(invocation)


@pytest.fixture
def door():
    """A plugin that asks callers who they are."""
    return Door()


@pytest.fixture(autouse=True)
def _no_url_in_the_environment(monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture
async def start():
    """A function that starts a `Platform` with plugins and options."""
    async with AsyncExitStack() as stack:

        async def begin(*plugins, **options):
            options = {"enable_rate_limiting": True, "rate_limit_per_minute": 3} | options
            nexus = Nexus(discover=False, plugins=[nexus_ratelimit.plugin.RateLimitPlugin, *plugins], **options)
            platform = Platform(nexus)
            platform.register()
            await stack.enter_async_context(nexus)
            return platform

        yield begin


@pytest.fixture
def start_shared(start, redis_server):
    """A function that starts a platform which counts in the Redis of the tests."""

    async def begin(*plugins, url=redis_server.url, redis_timeout=10, **options):  # a busy machine gets its time
        options |= {"redis_url": url, "redis_timeout": redis_timeout, "store": "redis"}
        options |= {"event_backend": "memory"}  # whose steps are apart from the calls that are counted here
        return await start(nexus_redis.plugin.RedisPlugin, *plugins, **options)

    return begin
