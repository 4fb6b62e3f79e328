"""Interceptors read the headers of a request in the same way on each channel that has some."""

from __future__ import annotations

import asyncio
from typing import Any

from doors import DOORS, CommandLine, Rest, WebSocket

from nexus_core import Invocation, Nexus, Plugin, Stage


class Reader:
    stage = Stage.OBSERVE

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, invocation: Invocation, call_next: Any) -> Any:
        if invocation.name == "echo":
            self.seen.append(invocation.headers)
        return await call_next(invocation)


async def test_headers_are_bytes_by_names_in_lower_case(serving: Any) -> None:
    reader = Reader()

    class ReaderPlugin(Plugin):
        def nexus_register_interceptors(self) -> list[Any]:
            return [reader]

    nexus = Nexus(plugins=[ReaderPlugin], api_port=0, cli_port=0, mcp_port=0)
    nexus.register("echo", lambda: "here")
    with serving(nexus) as (urls, loop):
        for kind in DOORS:
            assert (await kind(urls).call("echo", "{}")).value == "here"
            headers = reader.seen[-1]
            channel = "api" if kind in (Rest, WebSocket) else "cli" if kind is CommandLine else "mcp"
            assert headers[b"host"] == urls[channel].removeprefix("http://").encode(), kind
            assert all(type(each) is bytes for pair in headers.items() for each in pair)
            assert all(name == name.lower() for name in headers)
        assert len(reader.seen) == 5
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(nexus.invoke("echo"), loop))
        assert reader.seen[-1] is None
