"""Refuses what a page of a foreign origin sends: a browser attaches its user's network position to every request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.asgi import can_be_rebound, host_name, send_error
from nexus_core.errors import HostNotAllowed, OriginNotAllowed
from nexus_core.listeners import is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from nexus_core import NexusError
    from nexus_core.channel import ASGIApp, Receive, Scope, Send

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class OriginCheck:
    """Lets requests that change something, and WebSockets, pass only from the same origin or an allowed one.

    Programs send no Origin header and are not concerned. Reading is left to the browser's own same-origin policy,
    which ``cors_origins`` loosens; WebSockets have none, and simple POST requests are sent without asking.

    A page can make itself the same origin by letting its name resolve to this machine (DNS rebinding). So where only
    this machine is listened on, only this machine's names are answered. Mounted in another application, or on an
    address that others reach, this is not the channel's to decide.

    Args:
        app: What is behind.
        origins: The option ``cors_origins``.
        host: The option ``host``.
        hosts: The option ``api_allowed_hosts``.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], host: str, hosts: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._hosts = {host.lower(), *(each.lower() for each in hosts)}
        self._any_host = "*" in hosts or not is_loopback(host)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, or answer 403 or 421."""
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        error: NexusError | None = None
        if host and not self._any_host and not self._answers(host.decode("latin-1").lower(), scope):
            error = HostNotAllowed(
                "The Host header names a host that is not answered here; api_allowed_hosts (NEXUS_API_ALLOWED_HOSTS) "
                "lists those that are."
            )
        elif origin is not None and (scope["type"] == "websocket" or scope["method"] not in _READING):
            if not self._lets_in(origin.decode("latin-1"), (host or b"").decode("latin-1")):
                error = OriginNotAllowed("Pages of this origin may not call the API; see cors_origins.")
        return self._app(scope, receive, send) if error is None else send_error(scope, send, error)

    def _answers(self, host: str, scope: Scope) -> bool:
        name = host_name(host)
        if name in self._hosts or host in self._hosts or scope.get("root_path") or not can_be_rebound(name):
            return True
        server = scope.get("server")
        return server is None or not is_loopback(server[0])

    def _lets_in(self, origin: str, host: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        return bool(host) and origin.partition("://")[2] == host
