"""A platform with one small channel, served by hypercorn."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import AsyncExitStack
from types import ModuleType

import nexus_hypercorn.plugin
import pytest

from nexus_core import Channel, Nexus, hookimpl


class Small(Channel):
    """Answers with what it was asked; `/slow` after a while, `/stream` for ever, WebSockets echo."""

    name = "small"
    port_option = "small_port"
    port = 0

    def __init__(self):
        self.under_way = 0

    def asgi_app(self):
        return self._answer

    async def _answer(self, scope, receive, send):
        self.under_way += 1
        try:
            if scope["type"] == "websocket":
                await self._echo(scope, receive, send)
            elif scope["path"] == "/slow":
                await asyncio.sleep(0.3)
                await self._send(scope, send, b"slow")
            elif scope["path"] == "/stream":
                await self._stream(send)
            elif scope["path"] == "/large":
                await self._send(scope, send, b"x" * 50_000_000)
            else:
                await self._reflect(scope, receive, send)
        finally:
            self.under_way -= 1

    async def _send(self, scope, send, body):
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
            await asyncio.sleep(0.05)

    async def _reflect(self, scope, receive, send):
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        answer = {"path": scope["path"], "version": scope["http_version"], "length": len(body)}
        await self._send(scope, send, json.dumps(answer).encode())

    async def _echo(self, scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/ends":
            return
        if scope["path"] == "/deaf":
            await asyncio.sleep(3600)
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


@pytest.fixture
def small():
    return Small()


@pytest.fixture
async def serve(small):
    """A function that serves the channel with options and returns its URL."""
    plugin = ModuleType("small_plugin")

    @hookimpl
    def nexus_register_channels(nexus):
        return [small]

    plugin.nexus_register_channels = nexus_register_channels
    async with AsyncExitStack() as stack:

        async def start(**options):
            options = {"shutdown_grace": 0.2, "drain_seconds": 0.05} | options
            nexus = Nexus(discover=False, plugins=[plugin, nexus_hypercorn.plugin], **options)
            return (await stack.enter_async_context(nexus.serving()))[0].url

        yield start


@pytest.fixture
def eventually():
    async def wait(condition, seconds=5.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it never came to hold"
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def no_connection_left(eventually, small):
    """Wait until the server holds no connection and nothing that belongs to one."""

    async def wait(seconds=5.0):
        ends = ("_server_callback", "_send_pings", "_handle", "_discard")

        def none_left():
            names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
            return not small.under_way and not any(name.endswith(ends) for name in names)

        await eventually(none_left, seconds)

    return wait


class Raw:
    """A plain socket."""

    def __init__(self, url, **options):
        host, port = url.removeprefix("http://").rsplit(":", 1)
        self.socket = socket.socket()
        for name, value in options.items():
            self.socket.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        self.socket.settimeout(10)
        self.socket.connect((host, int(port)))
        self.socket.setblocking(False)
        self.received = b""

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, until=None, seconds=10.0):
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

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


@pytest.fixture
def raw():
    opened = []

    def connect(url, **options):
        opened.append(Raw(url, **options))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()
