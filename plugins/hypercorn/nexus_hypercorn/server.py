"""`HypercornServer`: one hypercorn for each listener, inside the running event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError
from nexus_hypercorn import internals
from nexus_hypercorn.drain import Drain
from nexus_hypercorn.tls import HANDSHAKE_SECONDS, Certificate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from hypercorn.config import Config

    from nexus_core import Listener
    from nexus_hypercorn.settings import HypercornSettings

ACCEPT_BACKLOG = 1024
"""Connections that the kernel keeps waiting while the loop is busy."""

LONGEST_USER_TIMEOUT = 2**31 - 1
"""Milliseconds that the kernel takes for TCP_USER_TIMEOUT."""

CLOSING_SECONDS = 1.0
"""How long hypercorn gets at the end to close its connections by itself."""


class HypercornServer:
    """Serves the listeners that it is given; see `nexus_core.Server`."""

    name = "hypercorn"

    def __init__(self, settings: HypercornSettings) -> None:
        self._settings = settings
        self.scheme = "https" if settings.enable_https else "http"

    async def serve(self, listeners: Sequence[Listener], started: asyncio.Event, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; then close the ports, let connections finish, end what is left."""
        internals.check()
        certificate = self._certificate()
        watching = None if certificate is None else asyncio.create_task(certificate.watch(), name="nexus-certificate")
        try:
            async with asyncio.TaskGroup() as group:
                for listener in listeners:
                    config = self._config(listener, certificate)
                    group.create_task(self._serve(listener, config, stop), name=f"hypercorn-{listener.channels[0]}")
                # The sockets listen already: the kernel keeps what comes before the first accept.
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

    async def _serve(self, listener: Listener, config: Config, stop: asyncio.Event) -> None:
        from hypercorn.asyncio import serve

        drain = Drain(listener.app)

        async def stopped() -> None:
            await stop.wait()
            # Before hypercorn knows: afterwards it floods every open WebSocket with pings.
            await drain.drain(self._settings.drain_seconds)
            asyncio.get_running_loop().call_later(CLOSING_SECONDS, internals.abort_connections, drain)

        await serve(drain, config, shutdown_trigger=stopped)  # type: ignore[arg-type]

    def _config(self, listener: Listener, certificate: Certificate | None) -> Config:
        from hypercorn.config import Config

        class Encrypted(Config):
            """Encrypts with a context that others look after."""

            ssl_enabled = certificate is not None

            def create_ssl_context(self) -> ssl.SSLContext | None:
                return None if certificate is None else certificate.context

        log = logging.getLogger("nexus.server")
        if log.level == logging.NOTSET:
            log.setLevel(logging.WARNING)  # hypercorn's own start-up lines name file descriptors
        for bound in listener.sockets:
            _notice_lost_peers(bound, self._settings.send_timeout)
        return Encrypted.from_mapping(
            bind=[f"fd://{bound.detach()}" for bound in listener.sockets],
            accesslog=None,
            errorlog=log,
            backlog=ACCEPT_BACKLOG,
            include_server_header=False,
            keep_alive_timeout=self._settings.keep_alive_timeout,
            h2_max_concurrent_streams=0,  # HTTP/2 is off, see Drain
            websocket_ping_interval=self._settings.websocket_ping_interval,
            websocket_max_message_size=self._settings.websocket_max_message_bytes,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            graceful_timeout=2 * CLOSING_SECONDS,
        )


def _notice_lost_peers(bound: socket.socket, seconds: float) -> None:
    """Let the kernel end connections whose other side is gone or takes nothing; accepted sockets inherit it.

    Without TCP_USER_TIMEOUT (RFC 5482) an answer that nobody reads is held until the peer goes, and a peer that is
    cut off is noticed after a quarter of an hour. Linux has it, others do without.
    """
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = min(max(1, int(seconds * 1000)), LONGEST_USER_TIMEOUT)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
