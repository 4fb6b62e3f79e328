"""A served platform with workflows of every kind, and clients for it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import httpx2
import pytest
from nexus_api.plugin import ApiPlugin
from nexus_hypercorn.plugin import HypercornPlugin
from pydantic import BaseModel

from nexus_core import Context, Nexus, Stage, WorkflowError
from nexus_core.testing import stage_of


class Line(BaseModel):
    sku: str
    count: int = 1


class Order(BaseModel):
    customer: str
    lines: list[Line] = []


@dataclass
class Seen:
    """What workflows have noticed."""

    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: int = 0


def register(nexus: Nexus, seen: Seen) -> None:
    @nexus.workflow
    async def add(a: int, b: int = 0) -> int:
        """Add two numbers."""
        return a + b

    @nexus.workflow
    def sync_add(a: int, b: int) -> int:
        return a + b

    @nexus.workflow
    async def visit(context: Context) -> int:
        if context.session is None:
            return 0
        state = context.session.state
        state["visits"] = state.get("visits", 0) + 1
        return state["visits"]

    @nexus.workflow
    async def echo(value: object = None):
        return value

    @nexus.workflow
    async def order(order: Order) -> Order:
        """Place an order."""
        return order

    @nexus.workflow
    async def count(n: int, pause: float = 0.0):
        for i in range(n):
            yield i
            if pause:
                await asyncio.sleep(pause)

    @nexus.workflow
    async def steps(n: int, context: Context) -> str:
        for i in range(n):
            context.progress(i + 1, n, "step")
            await asyncio.sleep(0)
        return "done"

    @nexus.workflow
    async def sleeps(seconds: float = 3600.0) -> str:
        seen.started.set()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            seen.cancelled.set()
            raise
        seen.finished += 1
        return "slept"

    @nexus.workflow
    def sync_sleeps(context: Context) -> str:
        context.emit("begun")
        while not context.cancelled:
            time.sleep(0.01)
        seen.cancelled.set()
        return "stopped"

    @nexus.workflow
    async def boom() -> None:
        raise ValueError("secret-token-4711")

    @nexus.workflow
    async def refuses() -> None:
        raise WorkflowError("The warehouse is closed.")

    @nexus.workflow
    def exits() -> None:
        sys.exit(3)

    @nexus.workflow
    async def async_exits() -> None:
        sys.exit(3)

    @nexus.workflow
    async def not_json():
        return object()

    @nexus.workflow
    async def hardly_json():
        class Model:
            def model_dump(self, **_):
                raise KeyError("secret-token-4711")

        return [Model()]

    @nexus.workflow
    async def not_finite():
        return {"a": [1.0, float("nan")]}

    @nexus.workflow
    async def blob(size: int) -> str:
        return "x" * size

    nexus.register("hangs", sleeps, {"timeout": 0.2})


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def make_nexus(seen):
    """A function that makes a `Nexus` with the test's workflows; it takes options."""

    def make(*more_plugins, **options):
        options = {"api_port": 0, "shutdown_grace": 0.3, "drain_seconds": 0.05} | options
        nexus = Nexus(discover=False, plugins=[ApiPlugin, HypercornPlugin, *more_plugins], **options)
        register(nexus, seen)
        return nexus

    return make


@pytest.fixture
async def serve():
    """A function that serves a `Nexus` until the test ends and returns its first listener's URL."""
    async with AsyncExitStack() as stack:

        async def start(nexus):
            return (await stack.enter_async_context(nexus.serving()))[0].url

        yield start


@pytest.fixture
async def client(make_nexus, serve):
    """A client of a platform with default options; `client.nexus` is the platform."""
    nexus = make_nexus()
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        client.nexus = nexus
        yield client


@pytest.fixture
def idle(eventually):
    """Wait until a platform has nothing under way: no run, no place taken, no task but the server's own."""

    async def wait(nexus, connections=0):
        def is_idle():
            names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
            calls = sum("Tasks._answer" == name or "_Connection" in name for name in names)
            return not nexus.runs.running() and not stage_of(nexus, Stage.ADMIT).in_use and calls <= connections

        await eventually(is_idle)

    return wait


@pytest.fixture
def post():
    """The bytes of an execute request."""

    def request(name, params=None, *headers):
        body = json.dumps(params or {}).encode()
        lines = [f"POST /api/workflows/{name}/execute HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", *headers]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    return request
