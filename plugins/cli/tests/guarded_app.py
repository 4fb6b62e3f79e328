"""An application that asks callers who they are and counts what they do."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "services"))
import callers

from nexus_core import Nexus, RateLimited, Stage, hookimpl
from nexus_core.types.principal import RateLimit


class Budget:
    """Limits one workflow, and tells what is left."""

    stage = Stage.LIMIT

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]

    async def __call__(self, invocation, call_next):
        limit = {"limit": 9, "window": 60.0, "remaining": 4, "reset": 12.5}
        if getattr(invocation, "name", None) == "limited":
            raise RateLimited("9 calls in 60 s are allowed.", retry_after=12.5, details=limit | {"remaining": 0})
        invocation.rate_limit = RateLimit(**limit)
        return await call_next(invocation)


nexus = Nexus(plugins=[callers.Callers(), Budget()])
callers.register(nexus)
nexus.register("limited", lambda: 1)
started = []


@nexus.workflow
async def counted(seconds: float = 0.0) -> int:
    started.append(1)
    await asyncio.sleep(seconds)
    return len(started)
