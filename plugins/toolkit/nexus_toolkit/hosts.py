"""`HostOriginGuard`: which Host and Origin headers are allowed, on every channel.

A page at evil.example can let its own name resolve to this machine and then read the responses of a server here (DNS
rebinding). Its requests carry its name in the Host header, so only names are allowed that cannot be registered by
others, or that ``allowed_hosts`` lists.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from nexus_core.errors import HostNotAllowed, MalformedRequest, OriginNotAllowed
from nexus_core.server.listeners import is_loopback
from nexus_core.server.public_address import mounted_at, origin_of
from nexus_core.types.addresses import parse_host, parse_origin, parse_public_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nexus_core.options.settings import CoreSettings
    from nexus_core.server.channel import Scope
    from nexus_core.types.addresses import Host

ANY = "*"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_REMEMBERED = 1000
_LONGEST = 300
"""Bytes of a Host header: a name has at most 253."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def _as_requested(host: str) -> str:
    """Return a host of an option for comparison: in lower case, without a final dot, IPv6 addresses in short form."""
    parsed = parse_host(host)
    return host.lower() if parsed is None else parsed.text


class HostOriginGuard:
    """Decides which requests one channel answers, by their Host and Origin headers.

    Args:
        options: The core's options.
        origins: Origins whose pages may call; ``*`` for all.
        origins_option: The option that lists them; empty for a channel that no page may call.
        is_strict: Whether the Host header is checked on addresses that other machines reach as well, the Origin header
            of every request is, and pages of this machine may call. The MCP specification requires the former two
            ("Security warning" of the streamable HTTP transport).
    """

    def __init__(
        self, options: CoreSettings, origins: Iterable[str] = (), *, origins_option: str = "", is_strict: bool = False
    ) -> None:
        public = [parse_public_url(options.public_url).host.name] if options.public_url else []
        self._hosts = {_as_requested(each) for each in (options.host, *options.allowed_hosts, *public)}
        self._is_limited = bool(options.allowed_hosts)
        self._any_host = ANY in self._hosts
        self._is_reachable = not is_loopback(options.host)
        self._origins = {each.lower() for each in origins}
        self._any_origin = ANY in self._origins
        self._origins_option = origins_option
        self._is_strict = is_strict
        self._parse_host = lru_cache(_REMEMBERED)(parse_host)

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Let a request pass.

        Programs send no Origin header. Reading is left to the browser's same-origin policy, which CORS loosens; it
        does not apply to WebSockets, and simple POST requests are sent without a preflight.

        Args:
            scope: The scope of the request.
            headers: Its headers, names in lower case.

        Raises:
            MalformedRequest: The Host header is invalid.
            HostNotAllowed: It is not allowed. The message names the option to set.
            OriginNotAllowed: Pages of the origin may not call. The message names the option to set.
        """
        host, origin = headers.get(b"host"), headers.get(b"origin")
        self._check_host(scope, host)
        if origin is None or not (self._is_strict or scope["type"] == "websocket" or scope["method"] not in _READING):
            return
        if not self._origins_option:
            raise OriginNotAllowed("Web pages may not call this URL.")
        if not (self.lists_origin(scope, origin) or self._is_same_origin(scope, origin, host)):
            raise OriginNotAllowed(
                f"Pages of this origin may not call this URL: {self._origins_option} "
                f"(NEXUS_{self._origins_option.upper()}) lists the allowed origins."
            )

    def _check_host(self, scope: Scope, header: bytes | None) -> None:
        if header is None:  # HTTP/1.0: pages always send it
            if self._is_strict:
                raise MalformedRequest("The Host header is missing.")
            return
        host = self._parse_host(header.decode("latin-1")) if len(header) <= _LONGEST else None  # what is kept of it
        if host is None:
            raise MalformedRequest("The Host header is not a host, with or without a port.")
        if not (self._any_host or host.is_fixed or self._is_listed(host) or self._is_free(host, scope)):
            raise HostNotAllowed(
                "Host header not allowed: allowed_hosts (NEXUS_ALLOWED_HOSTS) lists the allowed host names."
            )

    def _is_listed(self, host: Host) -> bool:
        return host.name in self._hosts or host.text in self._hosts

    def _is_free(self, host: Host, scope: Scope) -> bool:
        """Whether a name that no option lists is allowed: where this is not the channel's to decide."""
        server = scope.get("server")
        if self._is_strict:
            return server is not None and host.name == str(server[0]).lower()
        if self._is_limited:
            return False
        return self._is_reachable or bool(mounted_at(scope)) or server is None or not is_loopback(server[0])

    def lists_origin(self, scope: Scope, origin: bytes) -> bool:
        """Return whether pages of an origin may make cross-origin requests, which is what CORS is about."""
        text = origin.decode("latin-1").lower()
        parsed = parse_origin(text)
        if parsed is None:
            return self._any_origin and text == "null"  # a page without an origin, such as a file
        if self._any_origin or text in self._origins:
            return True
        is_page = parsed.scheme in ("http", "https")
        return self._is_strict and is_page and self._is_own_name(parsed.host, scope)

    def _is_own_name(self, host: Host, scope: Scope) -> bool:
        server = scope.get("server")  # the address the connection came in at
        return host.name in _LOOPBACK or self._is_listed(host) or (server is not None and host.name == str(server[0]))

    def _is_same_origin(self, scope: Scope, origin: bytes, host: bytes | None) -> bool:
        parsed = parse_origin(origin.decode("latin-1"))
        if parsed is None:
            return False
        own = parse_origin(origin_of(scope))
        named = self._parse_host((host or b"").decode("latin-1"))
        return (named is not None and parsed.is_of(named)) or (own is not None and parsed.is_of(own.host))
