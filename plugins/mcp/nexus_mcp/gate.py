"""`Gate`: refuses requests that a web page makes through a name it has rebound to this machine.

A page at evil.example can have its own name resolve to 127.0.0.1 and then read what a local server answers. Its
requests carry its name in the Host header, so only known names are answered (MCP specification, "Security warning"
of the streamable HTTP transport).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.asgi import can_be_rebound, host_name
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
        self._any_host = "*" in self._hosts
        self._origins = {each.lower().rstrip("/") for each in origins}

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Let a request pass.

        Raises:
            HostNotAllowed, OriginNotAllowed: The message names the option to set.
        """
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host_name(host)
        if not (self._any_host or self._knows(host, scope)) and (not name or can_be_rebound(name)):
            raise HostNotAllowed(
                "The Host header names a host that is not answered here; mcp_allowed_hosts (NEXUS_MCP_ALLOWED_HOSTS) "
                "lists those that are."
            )
        if origin := headers.get(b"origin"):
            self._check_origin(origin.decode("latin-1").lower(), host, scope)

    def _check_origin(self, origin: str, host: str, scope: Scope) -> None:
        """Let pages call that come from here: under the name in the Host header, or another of this machine's."""
        if self._origins & {origin, "*"}:
            return
        scheme, _, place = origin.partition("://")
        if scheme in ("http", "https") and place and (place == host or self._knows(place, scope)):
            return
        raise OriginNotAllowed(
            "Pages of this origin may not call here; mcp_allowed_origins (NEXUS_MCP_ALLOWED_ORIGINS) lists those "
            "that may."
        )

    def _knows(self, host: str, scope: Scope) -> bool:
        name = host_name(host)
        if host in self._hosts or name in self._hosts:
            return True
        server = scope.get("server")  # the address the connection came in at
        return server is not None and name == str(server[0]).lower()
