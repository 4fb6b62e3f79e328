"""`MetricsChannel`: the port that Prometheus scrapes."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import math
from typing import TYPE_CHECKING

from nexus_toolkit.endpoints import Endpoint
from nexus_toolkit.hosts import HostOriginGuard

from nexus_core import AuthenticationError, Caller, Channel, NexusError, NotFound, Stage
from nexus_core.errors import MethodNotAllowed
from nexus_core.server.asgi import local_path, send_error
from nexus_core.server.caller import caller_of, headers_of
from nexus_metrics.exporter import OPENMETRICS, TEXT, accepts_openmetrics, rendered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core import Platform
    from nexus_core.server.channel import ASGIApp, Receive, Scope, Send
    from nexus_metrics.registry import MetricsRegistry
    from nexus_metrics.settings import MetricsSettings

PATH = "/metrics"
PERMISSION = "metrics.read"
"""The permission that callers without the token need, if authentication is on."""


class MetricsChannel(Channel):
    """Answers ``GET /metrics`` on its own port. It is not part of `Nexus.asgi_app`."""

    name = "metrics"
    port_option = "metrics_port"
    paths = (PATH,)
    endpoints = (
        Endpoint(
            PATH, ("GET",), "Metrics for Prometheus; `metrics_token` replaces the permission.", (200,), PERMISSION
        ),
    )
    is_embedded = False
    serves_workers = True

    def __init__(self, platform: Platform, settings: MetricsSettings, registry: MetricsRegistry) -> None:
        self.port = settings.metrics_port
        self.shares_port = settings.metrics_multiprocess_dir is not None
        self._platform = platform
        self._guard = HostOriginGuard(platform.options)
        self._registry = registry
        token = settings.metrics_token
        self._token = None if token is None else token.get_secret_value().strip().encode()
        self.unguarded = "metrics_token" if token is None else ""
        self._rendering: dict[tuple[bool, bool], asyncio.Task[bytes]] = {}

    def asgi_app(self) -> ASGIApp:
        """Return the application; see `Channel.asgi_app`."""
        return self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or local_path(scope) != PATH:
            await send_error(scope, send, NotFound("Metrics are at /metrics."))
        elif scope["method"] not in ("GET", "HEAD"):
            error = MethodNotAllowed("Metrics are read with GET.")
            await send_error(scope, send, error, headers=[(b"allow", b"GET, HEAD")])
        else:
            headers = headers_of(scope)
            try:
                self._guard.check(scope, headers)
                await self._authorize(scope, headers)
            except NexusError as exc:
                await send_error(scope, send, exc)
                return
            await self._send_metrics(scope, headers, send)

    async def _authorize(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Check that a caller sends the token or, if authentication is on, has the permission.

        Raises:
            NexusError: The caller may not read metrics.
        """
        if self._has_token(headers):
            return
        if Stage.AUTHENTICATE in self._platform.stages:
            view = await self._platform.view(Caller(self.name, **caller_of(scope, headers)))
            await view.require(PERMISSION)
        elif self._token is not None:
            raise AuthenticationError("Metrics require the bearer token of the option metrics_token.")

    def _has_token(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        given = given.strip()
        if not self._token or not given or scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(given, self._token)

    async def _send_metrics(self, scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> None:
        openmetrics = accepts_openmetrics(headers.get(b"accept", b"").decode("latin-1"))
        zipped = accepts_gzip(headers.get(b"accept-encoding", b"").decode("latin-1"))
        body = await self._rendered(openmetrics, zipped)
        kind = OPENMETRICS if openmetrics else TEXT
        sent = [(b"content-type", kind.encode()), (b"vary", b"accept, accept-encoding")]
        if zipped:
            sent.append((b"content-encoding", b"gzip"))
        sent.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": sent})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _rendered(self, openmetrics: bool, zipped: bool) -> bytes:
        """Return the metrics; concurrent requests share one rendering."""
        task = self._rendering.get((openmetrics, zipped))
        if task is None or task.done():
            task = asyncio.create_task(self._render(openmetrics, zipped), name="nexus-metrics-render")
            self._rendering[openmetrics, zipped] = task
        return await asyncio.shield(task)

    async def _render(self, openmetrics: bool, zipped: bool) -> bytes:
        await self._registry.refresh()

        def render() -> bytes:
            body = rendered(self._registry.families(), openmetrics=openmetrics)
            return gzip.compress(body, 1) if zipped else body

        body: bytes = await self._platform.threads.call(render)
        return body

    async def stop(self) -> None:
        """Cancel the renderings."""
        for task in self._rendering.values():
            task.cancel()
        await asyncio.gather(*self._rendering.values(), return_exceptions=True)
        self._rendering.clear()


def accepts_gzip(accept: str) -> bool:
    """Whether an Accept-Encoding header takes gzip."""
    for part in accept.split(","):
        name, _, parameters = part.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            quality = parameters.partition("=")[2].strip() or "1"
            try:
                return not math.isclose(float(quality), 0.0)
            except ValueError:
                return False
    return False
