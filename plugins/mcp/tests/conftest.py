"""A Nexus with workflows of each kind, served on a free port, and the official client for it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Annotated

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from nexus_hypercorn.plugin import HypercornPlugin
from nexus_mcp.plugin import McpPlugin
from pydantic import BaseModel, Field

from nexus_core import Context, Nexus, WorkflowError

ERAS = ("auto", "legacy")


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Seen:
    """What workflows have noticed."""

    def __init__(self):
        self.started = 0
        self.cancelled = 0
        self.invocations = []


def register(nexus: Nexus, seen: Seen) -> None:
    @nexus.workflow
    def add(a: Annotated[int, Field(description="The first.")], b: int = 1) -> int:
        """Add two numbers."""
        return a + b

    @nexus.workflow
    async def tree(depth: int) -> Node:
        node = Node(name="leaf")
        for level in range(depth):
            node = Node(name=f"level {level}", children=[node])
        return node

    @nexus.workflow
    async def refuse(reason: str) -> None:
        raise WorkflowError(reason)

    @nexus.workflow
    async def boom() -> None:
        raise ValueError("the secret")

    @nexus.workflow
    async def steps(context: Context, count: int = 3) -> str:
        for index in range(count):
            context.progress(index + 1, count, f"step {index + 1}")
            await asyncio.sleep(0)
        return "done"

    @nexus.workflow
    async def squares(count: int):
        for index in range(count):
            yield index * index

    @nexus.workflow
    async def sleep(seconds: float) -> str:
        seen.started += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            seen.cancelled += 1
            raise
        return "slept"

    @nexus.workflow
    async def where(context: Context) -> dict[str, str | None]:
        return {"channel": context.channel, "session": context.session.id if context.session else None}


class Watch:
    """Keeps each invocation as the channel made it."""

    stage = 0

    def __init__(self, seen):
        self.seen = seen

    async def __call__(self, invocation, call_next):
        self.seen.invocations.append(invocation)
        return await call_next(invocation)


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def build(seen):
    """Make a Nexus with workflows of each kind; an option may replace another."""

    def make(*plugins, **options):
        from nexus_core import hookimpl

        class Watching:
            @hookimpl
            def nexus_register_interceptors(self):
                return [Watch(seen)]

        own = [McpPlugin, HypercornPlugin, Watching()]
        nexus = Nexus(**({"discover": False, "plugins": [*own, *plugins], "mcp_port": 0} | options))
        register(nexus, seen)
        return nexus

    return make


@asynccontextmanager
async def _serving(nexus):
    async with nexus.serving() as listeners:
        yield f"{listeners[0].url}/mcp"


@asynccontextmanager
async def _connected(address, era, headers=None, **options):
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)) as http:
        transport = streamable_http_client(address, http_client=http)
        async with Client(transport, mode=era, **options) as client:
            yield client


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def _initialize():
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}


def _call(name, **arguments):
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments, "_meta": META},
    }


def _modern(name):
    return {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": name}


@pytest.fixture
def kit(eventually):
    """What tests share: ``serving``, ``connected``, ``until``, and raw messages of both eras."""
    accept = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    return SimpleNamespace(
        serving=_serving, connected=_connected, until=eventually, initialize=_initialize, call=_call, modern=_modern,
        accept=accept,
    )  # fmt: skip


@pytest.fixture(params=ERAS)
def era(request):
    return request.param


@pytest.fixture
async def client(build, kit, era):
    """A connected client. A task of its own holds it: the client must be left by the task that entered it."""
    ready, done = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def hold():
        async with kit.serving(build()) as address, kit.connected(address, era) as client:
            ready.set_result(client)
            await done.wait()

    task = asyncio.create_task(hold())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    yield ready.result()
    done.set()
    await task
