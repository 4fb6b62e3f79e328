"""`HypercornServer`: one hypercorn for each listener, inside the running event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError
from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_hypercorn import _vendor_internals
from nexus_hypercorn.drain import Drain
from nexus_hypercorn.tls import HANDSHAKE_SECONDS, Certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercorn.config import Config

    from nexus_core import Listener
    from nexus_hypercorn.settings import HypercornSettings

ACCEPT_BACKLOG = 1024
"""Connections that the kernel queues while the event loop is busy."""

LONGEST_USER_TIMEOUT = 2**31 - 1
"""Largest value in milliseconds that the kernel accepts for TCP_USER_TIMEOUT."""


class HypercornServer:
    """Serves listeners; see `nexus_core.Server`.

    Args:
        settings: The plugin's options.
    """

    name = "hypercorn"

    def __init__(self, settings: HypercornSettings) -> None:
        self._settings = settings
        self._reports = RateLimitedLog(logging.getLogger("nexus.server"))
        self.scheme = "https" if settings.enable_https else "http"

    async def serve(self, listeners: Sequence[Listener], started: asyncio.Event, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; then close the ports, let connections finish, and close the remaining ones."""
        _vendor_internals.check()
        certificate = self._certificate()
        watching = None if certificate is None else asyncio.create_task(certificate.watch(), name="nexus-certificate")
        try:
            async with asyncio.TaskGroup() as group:
                for listener in listeners:
                    serving = self._serve(listener, certificate, stop)
                    group.create_task(serving, name=f"hypercorn-{listener.channels[0]}")
                # The sockets listen already: the kernel queues connections until the first accept.
                started.set()
        finally:
            if watching is not None:
                watching.cancel()

    def _certificate(self) -> Certificate | None:
        settings = self._settings
        if not settings.enable_https:
            return None
        if settings.ssl_cert_path is None or settings.ssl_key_path is None:
            raise ConfigurationError("enable_https needs ssl_cert_path and ssl_key_path.")
        return Certificate(settings.ssl_cert_path, settings.ssl_key_path, settings.ssl_key_password)

    async def _serve(self, listener: Listener, certificate: Certificate | None, stop: asyncio.Event) -> None:
        from nexus_hypercorn.port import Port

        for bound in listener.sockets:
            bound.listen(ACCEPT_BACKLOG)
            _notice_lost_peers(bound, self._settings.send_timeout)
        drain = Drain(listener.app)
        context = None if certificate is None else certificate.context
        port = Port(listener.sockets, drain, self._config(), context, HANDSHAKE_SECONDS, self._reports)
        port.open()
        try:
            await stop.wait()
            await drain.drain(self._settings.drain_seconds)
        finally:
            await port.close()

    def _config(self) -> Config:
        from hypercorn.config import Config

        return Config.from_mapping(
            accesslog=None,
            include_server_header=False,
            keep_alive_timeout=self._settings.keep_alive_timeout,
            websocket_ping_interval=self._settings.websocket_ping_interval,
            websocket_max_message_size=self._settings.websocket_max_message_bytes,
        )


def _notice_lost_peers(bound: socket.socket, seconds: float) -> None:
    """Let the kernel close connections whose peer is gone or does not read; accepted sockets inherit the options.

    Without TCP_USER_TIMEOUT (RFC 5482) a response that the peer does not read is held until the peer disconnects, and a
    peer without network is noticed after a quarter of an hour. Only Linux has it.
    """
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = min(max(1, int(seconds * 1000)), LONGEST_USER_TIMEOUT)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
