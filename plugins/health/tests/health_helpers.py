"""What several of these tests use."""

from __future__ import annotations

import asyncio
import sys
import time

from nexus_health.monitor_owner import monitor_of as monitor_of

COMMAND = [sys.executable, "-m", "nexus_core"]


async def comes(condition, seconds=20.0):
    """Wait until a condition holds, and return what it says."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it does not come"
        await asyncio.sleep(0.01)
    return found
