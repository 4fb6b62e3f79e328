"""A platform with every feature of the gateway on, its state in Redis behind the proxy, and a client of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from token_issuer import secret_token

from nexus_core import Nexus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "the secret of the gateway's tests, which is long enough"
EVERYTHING = {
    "enable_auth": True, "jwt_secret": SECRET, "enable_rate_limiting": True, "rate_limit_per_minute": 1_000_000,
    "enable_circuit_breaker": True, "enable_caching": True, "store": "redis", "cache_backend": "redis",
}  # fmt: skip


class Platform:
    """The platform, and how often its workflows have run."""

    def __init__(self, nexus: Nexus) -> None:
        self.nexus = nexus
        self.runs = 0

        @nexus.workflow(required_permissions=["data.read"])
        async def double(value: int) -> int:
            self.runs += 1
            return value * 2

    async def call(self, value: int, key: str | None = None) -> httpx2.Response:
        """Call the workflow, as somebody who may."""
        headers = {} if key is None else {"idempotency-key": key}
        return await self.client.post("/api/workflows/double/execute", json={"value": value}, headers=headers)

    async def timed(self, value: int, key: str | None = None) -> tuple[httpx2.Response, float]:
        """Return the answer and the seconds it took."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        return await self.call(value, key), loop.time() - begin


@pytest.fixture
def options() -> dict[str, Any]:
    """Options of the platform; a module may have its own."""
    return EVERYTHING


@pytest.fixture
async def platform(redis_proxy: Any, options: dict[str, Any]) -> AsyncIterator[Platform]:
    nexus = Nexus(api_port=0, cli_port=0, mcp_port=0, redis_url=redis_proxy.url, **options)
    platform = Platform(nexus)
    async with AsyncExitStack() as stack:
        urls = {name: each.url for each in await stack.enter_async_context(nexus.serving()) for name in each.channels}
        headers = {"authorization": f"Bearer {secret_token(SECRET, permissions=['data.*'])}"}
        limits = httpx2.Limits(max_connections=100)
        client = httpx2.AsyncClient(base_url=urls["api"], headers=headers, timeout=30, limits=limits)
        platform.client = await stack.enter_async_context(client)
        yield platform
