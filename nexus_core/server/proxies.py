"""The address of a caller behind proxies: only named proxies are trusted."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from nexus_core.types.addresses import parse_network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

KNOWN_ADDRESSES = 10_000
"""Addresses of which it is remembered whether they are a proxy's."""

MAX_HOST = len("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535")
MAX_HOPS = 20
"""How many proxies are believed one after the other."""

# A list's last element, and what is before it. Read from the end, where the nearest proxy has written: whatever the
# caller has sent, quotes that it has left open included, is before that.
_LAST = re.compile(r'(?:(.*),)?((?:[^",]|"[^"]*")*)', re.DOTALL)
_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")


class Hop(NamedTuple):
    """One that a request came through, or began at.

    Attributes:
        text: Its address.
        is_trusted: Whether it is one of the proxies that are named.
    """

    text: str
    is_trusted: bool


class TrustedProxies:
    """Finds the caller's own address where a request comes through proxies that are named.

    ``Forwarded`` (RFC 7239) and ``X-Forwarded-For`` are read from the end, for as long as the address so far is one of
    a proxy that is named. What can't be read ends that. Where both are there and differ, one of them is
    the caller's own invention: the proxy's address stays.

    Args:
        networks: The addresses and networks of proxies.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [parse_network(text) for text in networks]
        self._known = lru_cache(KNOWN_ADDRESSES)(self._read)

    def trusts(self, peer: str) -> bool:
        """Whether an address is one of a proxy that is named."""
        nearest = self._known(peer.partition("%")[0])
        return nearest is not None and nearest.is_trusted

    def client(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """Return the address of who is behind the address that a request comes from.

        Args:
            peer: That address.
            headers: The request's headers.
        """
        nearest = self._known(peer.partition("%")[0])
        if nearest is None or not nearest.is_trusted:
            return peer
        found = {
            self._furthest(nearest, hops(headers[name].decode("latin-1")))
            for name, hops in ((b"forwarded", _forwarded), (b"x-forwarded-for", _x_forwarded_for))
            if name in headers
        }
        return found.pop().text if len(found) == 1 else peer

    def _furthest(self, nearest: Hop, hosts: Iterator[str]) -> Hop:
        """Return the first hop that is no proxy, or the last one that is."""
        for _, host in zip(range(MAX_HOPS), hosts, strict=False):
            hop = self._known(host) if len(host) <= MAX_HOST else None
            if hop is None:
                break
            nearest = hop
            if not hop.is_trusted:
                break
        return nearest

    def _read(self, host: str) -> Hop | None:
        address = _address(host)
        if address is None:
            return None
        return Hop(str(address), any(address in network for network in self._networks))


def _x_forwarded_for(text: str) -> Iterator[str]:
    """Yield the elements of ``X-Forwarded-For``, from its end."""
    return (element.strip() for element in reversed(text.rsplit(",", MAX_HOPS)))


def _forwarded(text: str) -> Iterator[str]:
    """Yield what each element of ``Forwarded`` has in ``for``, from its end."""
    rest: str | None = text
    while rest is not None and (match := _LAST.fullmatch(rest)):
        rest = match[1]
        pairs = [pair.partition("=") for pair in match[2].split(";")]
        hosts = [value.strip() for name, _, value in pairs if name.strip().lower() == "for"]
        host = hosts[0] if len(hosts) == 1 else ""
        yield host[1:-1] if len(host) > 1 and host[0] == host[-1] == '"' else host


def _address(host: str) -> Address | None:
    """Return the address in a host with or without a port, or None for anything else."""
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    try:
        address = ipaddress.ip_address(match[1] or match[2] or match[3])
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
