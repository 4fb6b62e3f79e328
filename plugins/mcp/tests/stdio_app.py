"""Served by `test_stdio.py` in a process of its own. It prints wherever it can."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from nexus_core import Context, Nexus, hookimpl


class Watch:
    stage = 0

    async def __call__(self, invocation, call_next):
        if invocation.name == "whoami":
            invocation.params = {"credentials": dict(invocation.credentials or {}), "session": invocation.session_id}
            invocation.session_id = None
        return await call_next(invocation)


class Plugin:
    @hookimpl
    def nexus_register_interceptors(self):
        return [Watch()]


print("noise from the module")
nexus = Nexus(plugins=[Plugin()], disabled_plugins=["api", "cli", "console", "metrics", "durable", "kailash"])
other = "not a Nexus"


@nexus.workflow
def noisy(a: int) -> int:
    print("noise from a workflow")
    sys.__stdout__.write("more noise\n")
    sys.__stdout__.flush()
    subprocess.run([sys.executable, "-c", "print('noise from a child')"], check=True)
    return a + 1


@nexus.workflow
async def steps(context: Context) -> str:
    for index in range(3):
        context.progress(index + 1, 3, f"step {index + 1}")
        await asyncio.sleep(0)
    return "done"


@nexus.workflow
async def boom() -> None:
    raise ValueError("the secret")


@nexus.workflow
async def sleep(marker: str) -> None:
    Path(marker).write_text("started")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        Path(marker).write_text("cancelled")
        raise


@nexus.workflow
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@nexus.workflow
def sync_sleep(marker: str) -> None:
    Path(marker).write_text("started")
    time.sleep(60)


@nexus.workflow
async def blob(size: int) -> str:
    return "x" * size


@nexus.workflow
async def grow() -> str:
    async def late() -> int:
        return 1

    nexus.register("late", late)
    return "registered"


@nexus.workflow
async def whoami(credentials: dict[str, str], session: str | None) -> dict[str, object]:
    return {"credentials": credentials, "session": session}
