"""`CliChannel`: ``POST /cli``, for command lines on this and other machines. Plain ASGI.

Web pages must not call it: browsers send ``Origin``, and need a preflight request for ``application/json``.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing, suppress
from typing import TYPE_CHECKING

import msgspec
from nexus_toolkit.bodies import read_parsed
from nexus_toolkit.endpoints import Endpoint
from nexus_toolkit.hosts import HostOriginGuard

from nexus_cli.server.service import RequestAnswer, Service
from nexus_core.errors import MalformedRequest, MethodNotAllowed, NexusError, NotFound, Overloaded
from nexus_core.jsontext import parse
from nexus_core.pipeline.invocation import Caller
from nexus_core.server.asgi import error_headers, local_path, rate_limit_headers, send_error
from nexus_core.server.caller import caller_of, headers_of, idempotency_key_of
from nexus_core.server.channel import Channel
from nexus_core.types.parameter_source import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core import Platform
    from nexus_core.server.channel import ASGIApp, Receive, Scope, Send

PATH = "/cli"
LAST_SECONDS = 5.0
"""Time limit to send the final error to a client that does not read."""

_NDJSON = (b"content-type", b"application/x-ndjson")


class CliChannel(Channel):
    """The channel for command lines."""

    name = "cli"
    port_option = "cli_port"
    paths = (PATH,)
    endpoints = (Endpoint(PATH, ("POST",), "Run a command of a command line; the answer is lines of JSON.", (200,)),)
    parameter_source = ParameterSource.OPTION

    def __init__(self, platform: Platform, port: int) -> None:
        self.port = port
        self._platform = platform
        self._service = Service(platform)
        self._guard = HostOriginGuard(platform.options)
        self._endless: set[asyncio.Task[None]] = set()

    def asgi_app(self) -> ASGIApp:
        """Return the ASGI application, which has one address."""
        return self._answer

    async def drain(self) -> None:
        """End the streams that have no end; all other answers have completed. See `Channel.drain`."""
        for work in self._endless:
            work.cancel()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send_error(scope, send, NotFound("The command-line port accepts HTTP only."))
            return
        out = _Lines(scope, send)
        try:
            headers = headers_of(scope)
            self._guard.check(scope, headers)
            _check(scope, headers)
            caller = Caller("cli", **caller_of(scope, headers))
            key = idempotency_key_of(headers)
            body = await read_parsed(self._platform, caller, receive, lambda body: (body, parse(body)))
            if body is not None:
                answer = self._service.answer(body[1], caller, body[0], key)
                await self._work(answer, receive, out)
        except NexusError as exc:
            await out.fail(exc)

    async def _work(self, answer: RequestAnswer, receive: Receive, out: _Lines) -> None:
        """Send the answer's lines, until it ends or the client disconnects."""
        work = asyncio.create_task(self._send_lines(answer, out))
        leaving = asyncio.create_task(_disconnected(receive))
        if answer.is_endless:
            self._endless.add(work)
            work.add_done_callback(self._endless.discard)
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if work.cancelled():
                raise Overloaded("The server is stopping.", retry_after=1.0)
            if work.done():
                work.result()
        finally:
            for task in (work, leaving):
                task.cancel()
            await asyncio.wait({work, leaving})

    async def _send_lines(self, answer: RequestAnswer, out: _Lines) -> None:
        async with aclosing(answer.lines) as lines:
            with ExitStack() as held:
                async for line in lines:
                    if not out.has_begun:
                        await out.begin(200, rate_limit_headers(answer.caller.rate_limit))
                        held.enter_context(self._platform.credentials.lease(answer.caller))  # authenticated now
                    await out.send(line)
        await out.end()


class _Lines:
    """A response of newline-delimited JSON. Before its first line, an error sets the status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self.has_begun = False

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        every = [_NDJSON, (b"cache-control", b"no-store"), *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": every})

    async def send(self, line: bytes) -> None:
        await self._send({"type": "http.response.body", "body": line + b"\n", "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, error: NexusError) -> None:
        if not self.has_begun:
            await self.begin(error.status, error_headers(error, self._scope))
        reply = {} if error.reply is None else {"reply": error.reply}
        line = msgspec.json.encode({"error": error.problem()} | reply)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self.send(line)
                await self.end()


def _check(scope: Scope, headers: dict[bytes, bytes]) -> None:
    if local_path(scope).rstrip("/") != PATH:
        raise NotFound(f"Not found. The command-line port has one route: {PATH}.")
    if scope["method"] != "POST":
        raise MethodNotAllowed(f"{PATH} accepts POST only.")
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise MalformedRequest("The request must be JSON, with Content-Type: application/json.")


async def _disconnected(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
