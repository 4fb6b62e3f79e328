"""Calls of a workflow in this process, without any channel."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Self

from nexus_core import Caller, Nexus

sys.path.insert(0, str(Path(__file__).parent / "programs"))
from nexus_app import SECRET

CALLS = 1000


async def add(a: int, b: int) -> dict:
    """Add two numbers."""
    return {"sum": a + b}


class Invocations:
    """A `Nexus` with some number of workflows, without plugins."""

    def __init__(self, workflows: int) -> None:
        self._nexus = Nexus(discover=False)
        for number in range(workflows):
            self._nexus.register(f"add{number}", add)

    async def __aenter__(self) -> Self:
        await self._nexus.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._nexus.__aexit__(None, None, None)

    async def measure(self) -> dict[str, float]:
        """Call one workflow `CALLS` times and return the calls in a second of processor time."""
        begin = time.thread_time()
        for number in range(CALLS):
            result = await self._nexus.invoke("add7", {"a": number, "b": 2})
        seconds = time.thread_time() - begin
        assert result.value == {"sum": CALLS + 1}
        return {"value": CALLS / seconds, "cpu_us": 1e6 * seconds / CALLS}


def signed(claims: dict[str, Any]) -> str:
    """Return a token for the benchmarks' platforms."""
    from joserfc import jwt
    from joserfc.jwk import OctKey

    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


class Listing:
    """A `Nexus` with workflows that need two permissions each, and a caller who has both for every other one."""

    def __init__(self, workflows: int) -> None:
        self._nexus = Nexus(enable_auth=True, jwt_secret=SECRET)
        for number in range(workflows):
            permissions = [f"data{number}.read", f"data{number}.write"]
            self._nexus.register(f"add{number}", add, {"required_permissions": permissions})
        granted = [f"data{number}.*" for number in range(0, workflows, 2)]
        self._token = signed({"sub": "alice", "permissions": granted, "exp": int(time.time()) + 3600})
        self._expected = workflows // 2

    async def __aenter__(self) -> Self:
        await self._nexus.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._nexus.__aexit__(None, None, None)

    async def measure(self) -> dict[str, float]:
        """Ask what the caller sees and return the milliseconds it takes."""
        begin = time.perf_counter()
        view = await self._nexus.view(Caller(credentials={"authorization": f"Bearer {self._token}"}))
        seen = await view.workflows()
        seconds = time.perf_counter() - begin
        assert len(seen) == self._expected
        return {"value": 1000 * seconds}
