"""A served platform with workflows of every kind, and clients for it."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import httpx2
import nexus_api.plugin
import nexus_hypercorn.plugin
import pytest
from pydantic import BaseModel

from nexus_core import Context, Nexus, WorkflowError


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
        nexus = Nexus(discover=False, plugins=[nexus_api.plugin, nexus_hypercorn.plugin, *more_plugins], **options)
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
def eventually():
    """Wait until a condition holds, for at most some seconds."""

    async def wait(condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it never came to hold"
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def idle(eventually):
    """Wait until a platform has nothing under way: no run, no place taken, no task but the server's own."""

    async def wait(nexus, connections=0):
        def is_idle():
            names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
            calls = sum("_handle" == name or "_Connection" in name for name in names)
            return not nexus.runs.running() and not nexus._switch.running.admission.in_use and calls <= connections

        await eventually(is_idle)

    return wait


class Raw:
    """A plain socket that speaks whatever the test writes."""

    def __init__(self, url):
        host, port = url.removeprefix("http://").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setblocking(False)
        self.received = b""

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, until=None, seconds=10.0):
        """Return what has been received once `until` is in it, or the other side has closed."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            while until is None or until not in self.received:
                try:
                    data = await loop.sock_recv(self.socket, 65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    break
                self.received += data
        return self.received

    async def ask(self, data, until=None, seconds=10.0):
        await self.send(data)
        return await self.read(until, seconds)

    def close(self):
        self.socket.close()

    def reset(self):
        """Leave without a farewell."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


@pytest.fixture
def raw():
    opened = []

    def connect(url):
        opened.append(Raw(str(url)))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


@pytest.fixture
def post():
    """The bytes of an execute request."""

    def request(name, params=None, *headers):
        body = json.dumps(params or {}).encode()
        lines = [f"POST /api/workflows/{name}/execute HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", *headers]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    return request
