"""A platform that asks callers who they are, for the command line in its own process and MCP on stdio too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexus_core import Nexus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "the secret of the parity tests, which is long enough"


def build() -> Nexus:
    """Return the platform."""
    nexus = Nexus(
        api_port=0, cli_port=0, mcp_port=0, enable_auth=True, jwt_secret=SECRET, enable_rate_limiting=True,
        rate_limit_per_minute=100_000, auth_failures_per_minute=100_000, enable_circuit_breaker=True,
        enable_caching=True,
    )  # fmt: skip

    @nexus.workflow
    async def shared_by_all(value: int = 1) -> int:
        return value

    @nexus.workflow(required_permissions=["data.read", "data.write"])
    async def guarded(value: int = 1) -> int:
        """Return a value to those who may have it."""
        return value * 2

    @nexus.workflow(required_permissions=["data.read"])
    async def lasting(seconds: float = 60.0) -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(seconds)

    return nexus


nexus = build()
