"""``/api/schedules``, as an ASGI application for any channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import msgspec
from nexus_toolkit.endpoints import Endpoint
from nexus_toolkit.hosts import HostOriginGuard

from nexus_core.app.view import OPERATE
from nexus_core.errors import MethodNotAllowed, NexusError, NotFound, ValidationError
from nexus_core.pipeline.invocation import Caller
from nexus_core.pipeline.stage import Stage
from nexus_core.server.asgi import local_path, rate_limit_headers, send_error
from nexus_core.server.caller import caller_of, headers_of

if TYPE_CHECKING:
    from nexus_core import Platform
    from nexus_core.server.channel import Receive, Scope, Send
    from nexus_schedules.scheduler import Scheduler

PATH = "/api/schedules"
ACTIONS = ("pause", "resume", "run")
MOST_TIMES = 100


class ScheduleRoutes:
    """Shows schedules, and lets operators pause, resume and start them.

    Args:
        platform: The platform.
        scheduler: The schedules.
    """

    endpoints = (
        Endpoint(PATH, ("GET",), "Schedules, each with its next times; `?count=` says how many.", (200,), OPERATE),
        Endpoint(f"{PATH}/{{name}}/pause", ("POST",), "Pause a schedule.", (200, 404), OPERATE),
        Endpoint(f"{PATH}/{{name}}/resume", ("POST",), "Resume a schedule.", (200, 404), OPERATE),
        Endpoint(f"{PATH}/{{name}}/run", ("POST",), "Start a run of a schedule now.", (200, 404), OPERATE),
    )

    def __init__(self, platform: Platform, scheduler: Scheduler) -> None:
        self._platform = platform
        self._scheduler = scheduler
        self._guard = HostOriginGuard(platform.options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            await self._answer(scope, send)
        except NexusError as exc:
            await send_error(scope, send, exc)

    async def _answer(self, scope: Scope, send: Send) -> None:
        if scope["type"] != "http":
            raise NotFound(f"Not found: use {PATH}.")
        headers = headers_of(scope)
        if Stage.AUTHENTICATE not in self._platform.stages:
            self._guard.check(scope, headers)
        view = await self._platform.view(Caller("api", **caller_of(scope, headers)))
        await view.require(OPERATE)
        body = msgspec.json.encode(await self._reply(scope))
        every = [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"), *rate_limit_headers(view.rate_limit),
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": every})
        await send({"type": "http.response.body", "body": body})

    async def _reply(self, scope: Scope) -> dict[str, Any]:
        rest = [unquote(part) for part in local_path(scope).removeprefix(PATH).split("/")[1:]]
        if not rest:
            if scope["method"] != "GET":
                raise MethodNotAllowed("Allowed methods: GET.")
            return await self._scheduler.page(_count(scope.get("query_string", b"")))
        if len(rest) != 2 or rest[1] not in ACTIONS:
            raise NotFound(f"Not found: use {PATH}/NAME/ and {', '.join(ACTIONS)}.")
        if scope["method"] != "POST":
            raise MethodNotAllowed("Allowed methods: POST.")
        name, action = rest
        if action == "run":
            return await self._scheduler.run_now(name)
        return await self._scheduler.set_paused(name, action == "pause")


def _count(query: bytes) -> int:
    (text,) = parse_qs(query.decode("latin-1")).get("count", ["1"])[-1:]
    if not (text.isdecimal() and text.isascii() and 1 <= int(text[:9]) <= MOST_TIMES):
        raise ValidationError(f"count must be a number from 1 to {MOST_TIMES}.")
    return int(text)
