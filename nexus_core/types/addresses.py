"""Hosts, origins and networks as requests and options name them, read strictly: what is not one of them is nothing."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

_HOST = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?)\.?)(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#@\\\s]+)")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_LARGEST_PORT = 65535
_LONGEST_PREFIX = 200
_PORTS = {"http": 80, "https": 443}


class Host(NamedTuple):
    """A host as the header of that name, or an origin, has it.

    Attributes:
        name: In lower case, without brackets and a final dot.
        port: None where none is named.
        is_fixed: Whether the name can't be made to mean another machine (DNS rebinding): an address, or localhost.
    """

    name: str
    port: int | None
    is_fixed: bool

    @property
    def text(self) -> str:
        """The host as a header has it."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


class Origin(NamedTuple):
    """What a browser says a page comes from (RFC 6454).

    Attributes:
        scheme: In lower case.
        host: The host.
    """

    scheme: str
    host: Host

    def is_of(self, host: Host) -> bool:
        """Whether a page is from the host that a request names. The scheme is not compared: a proxy may change it."""
        port = _PORTS.get(self.scheme)
        if port is None or self.host.name != host.name:
            return False
        return self.host.port == host.port or {self.host.port, host.port} == {None, port}


def parse_host(text: str) -> Host | None:
    """Return the host that a text names, or None: where there is anything else before, in or after it."""
    match = _HOST.fullmatch(text.lower())
    if match is None or (match[3] is not None and int(match[3]) > _LARGEST_PORT):
        return None
    address, name, port = match[1], match[2], None if match[3] is None else int(match[3])
    if address is not None:
        try:
            return Host(str(ipaddress.IPv6Address(address)), port, True)
        except ValueError:
            return None
    return None if ".." in name else Host(name, port, not can_be_rebound(name))


def can_be_rebound(name: str) -> bool:
    """Whether the owner of a host's name can let it mean this machine (DNS rebinding): not for addresses, localhost."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name != "localhost" and not name.endswith(".localhost")
    return False


def parse_origin(text: str) -> Origin | None:
    """Return the origin that a text names, or None. The ``null`` of pages without one is not one."""
    match = _ORIGIN.fullmatch(text.lower())
    host = None if match is None else parse_host(match[2])
    return None if match is None or host is None else Origin(match[1], host)


def parse_prefix(text: str) -> str | None:
    """Return a path such as ``/nexus``, without a slash at its end, or None; an empty one for the root."""
    path = text.rstrip("/")
    return path if not path or (len(path) <= _LONGEST_PREFIX and _PREFIX.fullmatch(path)) else None


class PublicUrl(NamedTuple):
    """Where callers reach the platform.

    Attributes:
        origin: Such as ``https://example.com``.
        host: Its host.
        path: Such as ``/nexus``; empty for the root.
    """

    origin: str
    host: Host
    path: str


def parse_public_url(text: str) -> PublicUrl:
    """Return the parts of a URL.

    Raises:
        ValueError: It is not the address of a web site or of a path there.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    origin = parse_origin(f"{parts.scheme}://{parts.netloc}")
    path = parse_prefix(unquote(parts.path))
    if origin is None or origin.scheme not in _PORTS or path is None or parts.query or parts.fragment:
        raise ValueError("must be a URL such as https://example.com or https://example.com/nexus")
    return PublicUrl(f"{origin.scheme}://{origin.host.text}", origin.host, path)


def check_public_url(text: str | None) -> str | None:
    """Return a URL that `parse_public_url` reads, or None for an empty one."""
    if text is None or not text.strip():
        return None
    parse_public_url(text)
    return text


def check_hosts(names: list[str]) -> list[str]:
    """Return names for the Host header.

    Raises:
        ValueError: One is neither a host nor ``*``.
    """
    for name in names:
        if name != "*" and parse_host(name) is None:
            raise ValueError(f"{name!r} is neither a host such as example.com or example.com:8443 nor *")
    return names


def check_origins(origins: list[str]) -> list[str]:
    """Return origins, without a slash at their end.

    Raises:
        ValueError: One is neither an origin nor ``*``.
    """
    found = [origin.rstrip("/") for origin in origins]
    for origin in found:
        if origin != "*" and parse_origin(origin) is None:
            raise ValueError(f"{origin!r} is neither an origin such as https://app.example.com nor *")
    return found


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return the network that an option names.

    Raises:
        ValueError: It names none, or everybody.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as exc:
        raise ValueError(f"{text!r} is neither an address nor a network such as 10.0.0.0/8 ({exc})") from None
    if network.prefixlen == 0:
        raise ValueError(f"{text!r} contains all addresses: any caller could claim any address")
    return network


def check_networks(networks: list[str]) -> list[str]:
    """Return networks, as `parse_network` reads them."""
    for text in networks:
        parse_network(text)
    return networks


IPV6_HOST_BITS = 64
"""Bits of an IPv6 address that its owner chooses freely: a network of this size is one customer's (RFC 6177)."""


def network_of(address: str) -> str:
    """Return what stands for an address: itself, or the network that an IPv6 address is in."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # a server that has another kind
        return quote(address[:255])
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(ip) >> IPV6_HOST_BITS << IPV6_HOST_BITS)) + "/64"
