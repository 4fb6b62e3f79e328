"""`HealthChannel`: answers probes in threads on its own port, even while the event loop is blocked."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from socket import SHUT_RDWR
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core import Channel
from nexus_core.concurrency.threads import call_on
from nexus_health.routes import LIVENESS, PATH, READINESS

if TYPE_CHECKING:
    import socket

    from nexus_health.monitor import HealthMonitor

log = logging.getLogger(__name__)

STALLED_SECONDS = 30.0
"""Seconds after which a blocked event loop counts as not alive."""

REQUEST_SECONDS = 5.0
"""Time limit of a request and its response."""

MAX_CONNECTIONS = 32
"""Maximum open connections. The oldest one is closed for a new one, so that slow clients block no probe."""


class HealthChannel(Channel):
    """Answers ``GET /health/live`` and ``GET /health/ready``. It is not part of `Nexus.asgi_app`.

    Args:
        host: The address to listen on.
        port: The port to listen on.
        monitor: The health of the platform.
    """

    name = "health"
    port_option = "health_port"
    paths = (PATH,)
    endpoints = (replace(LIVENESS, answers=(200, 503)), READINESS)
    is_embedded = False
    serves_workers = True
    serves_itself = True

    def __init__(self, host: str, port: int, monitor: HealthMonitor) -> None:
        self.port = port
        self._host = host
        self._monitor = monitor
        self._server: _ProbeServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pinged_at: float | None = None
        self._lock = threading.Lock()

    def serve(self, bound: socket.socket) -> None:
        """Start to answer; see `Channel.serve`."""
        self._loop = asyncio.get_running_loop()
        self._server = _ProbeServer(bound, self.answer)
        threading.Thread(target=self._server.serve_forever, name="nexus-health-port", daemon=True).start()
        log.info("Listening for probes: http://%s:%s%s", self._host, bound.getsockname()[1], PATH)

    async def stop(self) -> None:
        """Stop the server."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and body for a path. From any thread."""
        late = self._loop_delay()
        if path == f"{PATH}/live":
            if late < STALLED_SECONDS:
                return 200, {"status": "alive"}
            return 503, {"status": "stalled", "seconds": round(late, 1)}
        if path != f"{PATH}/ready":
            return 404, {"status": "not found", "there_are": [f"{PATH}/live", f"{PATH}/ready"]}
        if late >= STALLED_SECONDS:
            return 503, {"status": "not ready", "not_ready": ["event loop"]}
        readiness = self._monitor.readiness()
        return 200 if readiness["status"] == "ready" else 503, readiness

    def _loop_delay(self) -> float:
        """Ping the event loop, and return for how many seconds it has not answered the last ping."""
        with self._lock:
            now = time.monotonic()
            if self._pinged_at is None and self._loop is not None:
                self._pinged_at = now
                call_on(self._loop, self._pong)
            return 0.0 if self._pinged_at is None else now - self._pinged_at

    def _pong(self) -> None:
        self._pinged_at = None


class _ProbeServer(ThreadingMixIn, TCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, bound: socket.socket, answer: Any) -> None:
        self.answer = answer
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(bound.getsockname()[:2], _Probe, bind_and_activate=False)
        self.socket.close()
        bound.setblocking(True)
        self.socket = bound

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                self._shut_down(next(iter(self._open)))
            self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection and forget it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)

    def service_actions(self) -> None:
        """Close slow connections every half second: a socket timeout restarts with each byte."""
        latest = time.monotonic() - REQUEST_SECONDS
        with self._lock:
            for request in [request for request, begun in self._open.items() if begun < latest]:
                self._shut_down(request)

    def _shut_down(self, request: socket.socket) -> None:
        """Shut a connection down; its thread closes it."""
        del self._open[request]
        with suppress(OSError):  # it is closed already
            request.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""
        log.debug("A probe disconnected", exc_info=True)


class _Probe(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server: _ProbeServer

    def do_GET(self) -> None:
        """Answer a probe and close the connection."""
        status, members = self.server.answer(self.path.partition("?")[0])
        body = msgspec.json.encode(members)
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.send_header("connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Log nothing: probes come every few seconds."""
