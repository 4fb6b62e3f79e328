"""``/health/live``, ``/health/ready`` and ``/health``, as an ASGI application for any channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from nexus_toolkit.endpoints import Endpoint
from nexus_toolkit.hosts import HostOriginGuard

from nexus_core.errors import MethodNotAllowed, NexusError, NotFound
from nexus_core.pipeline.invocation import Caller
from nexus_core.pipeline.stage import Stage
from nexus_core.server.asgi import local_path, rate_limit_headers, send_error
from nexus_core.server.caller import caller_of, headers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core import Platform
    from nexus_core.server.channel import Receive, Scope, Send
    from nexus_health.monitor import HealthMonitor

PATH = "/health"
PERMISSION = "health.read"
"""The permission for the full report, if authentication is on."""

LIVENESS = Endpoint(f"{PATH}/live", ("GET",), "Liveness probe: whether the process answers.", (200,))
READINESS = Endpoint(
    f"{PATH}/ready", ("GET",), "Readiness probe: whether callers should be sent to this process.", (200, 503)
)

_NO_STORE = (b"cache-control", b"no-store")
_ALLOW = (b"allow", b"GET, HEAD")
_ALIVE = b'{"status":"alive"}'


class HealthRoutes:
    """Answers probes, and serves the full report.

    Probes need no authentication, count for no rate limit, and are answered at once from the latest results.

    Args:
        platform: The platform.
        monitor: The health of the platform.
    """

    endpoints = (
        LIVENESS,
        READINESS,
        Endpoint(PATH, ("GET",), "Report of all health checks.", (200, 503), PERMISSION),
    )

    def __init__(self, platform: Platform, monitor: HealthMonitor) -> None:
        self._platform = platform
        self._monitor = monitor
        self._guard = HostOriginGuard(platform.options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            await self._answer(scope, send)
        except MethodNotAllowed as exc:
            await send_error(scope, send, exc, headers=[_NO_STORE, _ALLOW])
        except NexusError as exc:
            await send_error(scope, send, exc, headers=[_NO_STORE])

    async def _answer(self, scope: Scope, send: Send) -> None:
        path = local_path(scope)
        if scope["type"] != "http" or path not in _PATHS:
            raise NotFound(f"Not found: use {PATH}, {PATH}/live or {PATH}/ready.")
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed("Allowed methods: GET, HEAD.")
        if path.endswith("/live"):
            await _reply(scope, send, 200, _ALIVE)
        elif path.endswith("/ready"):
            await self._ready(scope, send)
        else:
            await self._report(scope, send)

    async def _ready(self, scope: Scope, send: Send) -> None:
        readiness = self._monitor.readiness()
        if readiness["status"] == "ready":
            await _reply(scope, send, 200, msgspec.json.encode(readiness))
        else:
            await _reply(scope, send, 503, msgspec.json.encode(readiness), self._retry())

    async def _report(self, scope: Scope, send: Send) -> None:
        headers = headers_of(scope)
        self._refuse_rebound(scope, headers)
        view = await self._platform.view(Caller("api", **caller_of(scope, headers)))
        await view.require(PERMISSION)
        report = self._monitor.report()
        more = rate_limit_headers(view.rate_limit)
        body = msgspec.json.encode(report)
        if report["ready"]:
            await _reply(scope, send, 200, body, more)
        else:
            await _reply(scope, send, 503, body, [*more, *self._retry()])

    def _retry(self) -> list[tuple[bytes, bytes]]:
        return [(b"retry-after", b"%d" % self._monitor.retry_after)]

    def _refuse_rebound(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Without authentication, prevent that a web page reads the report by DNS rebinding."""
        if Stage.AUTHENTICATE not in self._platform.stages:
            self._guard.check(scope, headers)


_PATHS = frozenset(each.path for each in HealthRoutes.endpoints)


async def _reply(
    scope: Scope, send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    length = (b"content-length", b"%d" % len(body))
    every = [(b"content-type", b"application/json"), length, _NO_STORE, *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
