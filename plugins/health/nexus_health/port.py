"""`HealthChannel`: answers probes in threads of its own, on a port of its own, also while the event loop is late."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socket import SHUT_RDWR
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core import Channel
from nexus_core.concurrency.threads import call_on
from nexus_health.routes import PATH

if TYPE_CHECKING:
    import socket

    from nexus_core import Nexus
    from nexus_health.monitor import Monitor

log = logging.getLogger(__name__)

STALLED_SECONDS = 30.0
"""After so long without a turn of the event loop, the platform is no longer alive."""

REQUEST_SECONDS = 5.0
"""How long a request may take to arrive, and its answer to be taken."""

MAX_CONNECTIONS = 32
"""How many are open at once. The oldest makes room: a probe is answered at once, and who is slow keeps none out."""


class HealthChannel(Channel):
    """Answers ``GET /health/live`` and ``GET /health/ready``. No application has it in itself.

    Args:
        nexus: The platform.
        port: Where it listens.
        monitor: Knows how the platform is.
    """

    name = "health"
    port_option = "health_port"
    paths = (PATH,)
    is_embedded = False
    serves_itself = True

    def __init__(self, nexus: Nexus, port: int, monitor: Monitor) -> None:
        self.port = port
        self._host = nexus.options.host
        self._monitor = monitor
        self._server: _ProbeServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: float | None = None
        self._lock = threading.Lock()

    def serve(self, bound: socket.socket) -> None:
        """Begin to answer; see `Channel.serve`."""
        self._loop = asyncio.get_running_loop()
        self._server = _ProbeServer(bound, self.answer)
        threading.Thread(target=self._server.serve_forever, name="nexus-health-port", daemon=True).start()
        log.info("Probes are answered at http://%s:%s%s too", self._host, bound.getsockname()[1], PATH)

    async def stop(self) -> None:
        """End it."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and body for a path, on any thread."""
        late = self._seconds_without_turn()
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

    def _seconds_without_turn(self) -> float:
        """Ask the event loop for a sign of life, and return for how long it has owed the last one."""
        with self._lock:
            now = time.monotonic()
            if self._asked is None and self._loop is not None:
                self._asked = now
                call_on(self._loop, self._has_answered)
            return 0.0 if self._asked is None else now - self._asked

    def _has_answered(self) -> None:
        self._asked = None


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
        """Answer in a thread."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                self._break_off(next(iter(self._open)))
            self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)

    def service_actions(self) -> None:
        """Break off, every half second, what has taken too long: a timeout of the socket begins anew with each byte."""
        latest = time.monotonic() - REQUEST_SECONDS
        with self._lock:
            for request in [request for request, begun in self._open.items() if begun < latest]:
                self._break_off(request)

    def _break_off(self, request: socket.socket) -> None:
        """End a connection; its thread closes it."""
        del self._open[request]
        with suppress(OSError):  # it has ended by itself
            request.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that break off."""
        log.debug("A probe broke off", exc_info=True)


class _Probe(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server: _ProbeServer

    def do_GET(self) -> None:
        """Answer a probe, and close the connection."""
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
