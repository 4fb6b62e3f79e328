"""`Gate`: refuses requests that a web page makes through a name it has rebound to this machine.

A page at evil.example can have its own name resolve to 127.0.0.1 and then read what a local server answers. Its
requests carry its name in the Host header, so only known names are answered (MCP specification, "Security warning"
of the streamable HTTP transport).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nexus_core.errors import HostNotAllowed, OriginNotAllowed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nexus_core.channel import Scope

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Gate:
    """Knows the hosts and origins that are let in.

    Args:
        host: The option ``host``: where the channel listens.
        hosts: Further names, with a port or for any port; ``*`` for all.
        origins: Further origins; ``*`` for all.
    """

    def __init__(self, host: str, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._hosts = {each.lower() for each in (*LOOPBACK, host, *hosts)}
        self._origins = {each.lower().rstrip("/") for each in origins}

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Let a request pass.

        Raises:
            HostNotAllowed, OriginNotAllowed: The message names the option to set.
        """
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._is_host_allowed(host, scope):
            raise HostNotAllowed(
                "The Host header names a host that is not answered here; mcp_allowed_hosts (NEXUS_MCP_ALLOWED_HOSTS) "
                "lists those that are."
            )
        if origin := headers.get(b"origin"):
            self._check_origin(origin.decode("latin-1").lower(), scope)

    def _check_origin(self, origin: str, scope: Scope) -> None:
        if self._origins & {origin, "*"}:
            return
        parts = urlsplit(origin)
        if parts.scheme in ("http", "https") and self._is_host_allowed(parts.netloc, scope):
            return
        raise OriginNotAllowed(
            "Pages of this origin may not call here; mcp_allowed_origins (NEXUS_MCP_ALLOWED_ORIGINS) lists those "
            "that may."
        )

    def _is_host_allowed(self, host: str, scope: Scope) -> bool:
        name = _without_port(host)
        if not name:
            return False
        if host in self._hosts or name in self._hosts or "*" in self._hosts:
            return True
        server = scope.get("server")  # the address the connection came in at: no name can be rebound to be that
        return server is not None and name == str(server[0]).lower()


def _without_port(host: str) -> str:
    if host.startswith("["):  # an IPv6 address
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
