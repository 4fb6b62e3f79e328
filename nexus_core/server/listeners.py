"""Binds the channels' ports: all of them, or none."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import defaultdict
from typing import TYPE_CHECKING

from nexus_core.errors import ConfigurationError, PortInUse
from nexus_core.options.settings import ENV_PREFIX
from nexus_core.server.channel import ASGIApp, Channel, Listener, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


def bind(
    channels: Sequence[Channel],
    routes: Sequence[Route],
    host: str,
    front: Callable[[Iterable[tuple[str, ASGIApp]]], ASGIApp],
    scheme: str = "http",
) -> list[Listener]:
    """Bind one listener for each port that channels ask for. Channels that ask for the same one share it.

    Args:
        channels: Those without a port are left out; port 0 is a free port of the channel's own.
        routes: What plugins add to a channel's own addresses.
        host: The address to bind.
        front: Makes a listener's application of those under its paths.
        scheme: ``https`` where the server encrypts.

    Raises:
        PortInUse: A port is taken. Nothing stays bound.
        ConfigurationError: The host or a port can't be bound for another reason.
    """
    groups: dict[object, list[tuple[Channel, ASGIApp]]] = defaultdict(list)
    for channel in channels:
        app = channel.asgi_app() if channel.port is not None else None
        if app is not None:
            groups[channel.port or channel].append((channel, app))
    every = [channel for group in groups.values() for channel, _ in group]
    taker = next((channel.name for channel in every if channel.takes_routes), None)
    places = {"": taker, None: taker or next((channel.name for channel in every), None)}
    listeners: list[Listener] = []
    try:
        for group in groups.values():
            bound = _bind(host, group[0][0])
            names = tuple(channel.name for channel, _ in group)
            listeners.append(Listener(names, (bound,), front(_apps(group, routes, places)), _url(bound, scheme)))
    except BaseException:
        close(listeners)
        raise
    return listeners


def serve_own(channels: Sequence[Channel], host: str) -> None:
    """Let the channels that serve themselves do so, each on its port.

    Raises:
        PortInUse: A port is taken.
        ConfigurationError: The host or a port can't be bound for another reason.
    """
    for channel in channels:
        if channel.serves_itself and channel.port is not None:
            channel.serve(_bind(host, channel))


def _apps(
    group: Sequence[tuple[Channel, ASGIApp]], routes: Sequence[Route], places: Mapping[str | None, str | None]
) -> list[tuple[str, ASGIApp]]:
    names = {channel.name for channel, _ in group}
    added = [(route.path, route.app) for route in routes if places.get(route.channel, route.channel) in names]
    return added + [(path, app) for channel, app in group for path in channel.paths]


def _url(bound: socket.socket, scheme: str) -> str:
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _bind(host: str, channel: Channel) -> socket.socket:
    option, port = channel.port_option or "port", channel.port or 0
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as exc:
        raise ConfigurationError(f"host {host!r} with {option} {port} can't be listened on: {exc}.") from None
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if channel.shares_port and hasattr(socket, "SO_REUSEPORT"):
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind(address)
        bound.listen(1024)
    except OSError as exc:
        bound.close()
        if exc.errno == errno.EADDRINUSE:
            variable = f"{ENV_PREFIX}{option.upper()}"
            raise PortInUse(f"{option} {port} on {host} is in use; set {option} ({variable}) to a free port.") from None
        raise ConfigurationError(f"host {host!r} with {option} {port} can't be listened on: {exc.strerror}.") from None
    bound.setblocking(False)
    return bound


def close(listeners: Sequence[Listener]) -> None:
    """Close the ports of listeners that no server has taken over."""
    for listener in listeners:
        for bound in listener.sockets:
            bound.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
