"""A platform with one small channel, served by hypercorn."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from types import ModuleType

import pytest
from nexus_hypercorn.plugin import HypercornPlugin

from nexus_core import Channel, Nexus, hookimpl
from nexus_core.testing import eventually


class Small(Channel):
    """Answers with what it was asked, `/held` when it is released, `/watched` never, `/deaf` when no more fits.

    WebSockets echo.
    """

    name = "small"
    port_option = "small_port"
    port = 0

    def __init__(self):
        self.under_way = 0
        self.released = asyncio.Event()

    def asgi_app(self):
        return self._answer

    async def _answer(self, scope, receive, send):
        self.under_way += 1
        try:
            if scope["type"] == "websocket":
                await self._echo(scope, receive, send)
            elif scope["path"] == "/held":
                await self.released.wait()
                await self._send(scope, send, b"held")
            elif scope["path"] == "/watched":
                while (await receive())["type"] != "http.disconnect":
                    pass
            elif scope["path"] == "/deaf":
                await eventually(receive.__self__._receive.__self__.full)  # hypercorn's queue, behind the guard
                await self._send(scope, send, b"deaf")
            elif scope["path"] == "/streamed":
                await self._stream(send)
            elif scope["path"] == "/breaks":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
                raise ValueError("out of paper")
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
        for _ in range(50_000):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})

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
        if scope["path"] == "/slow" and (await receive())["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.accept"})
        if scope["path"] == "/closes":
            await send({"type": "websocket.close", "code": 1008})
        if scope["path"] == "/ends":
            return
        if scope["path"] == "/deaf":
            await asyncio.Event().wait()
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
            nexus = Nexus(discover=False, plugins=[plugin, HypercornPlugin], **options)
            return (await stack.enter_async_context(nexus.serving()))[0].url

        yield start


@pytest.fixture
def no_connection_left(small):
    """Wait until the server holds no connection and nothing that belongs to one."""

    async def wait():
        ends = ("Port._serve", "_send_pings", "Tasks._answer", "_discard", "_read_ahead")

        def none_left():
            names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
            return not small.under_way and not any(name.endswith(ends) for name in names)

        await eventually(none_left)

    return wait
