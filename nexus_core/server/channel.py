"""What a channel and a server are to the core. A channel only translates; a server only listens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nexus_core.types.parameter_source import ParameterSource

if TYPE_CHECKING:
    import asyncio
    import socket

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Middleware = Callable[[ASGIApp], ASGIApp]


class Channel:
    """One way in. Subclass it and return it from ``nexus_register_channels``.

    Attributes:
        name: ``api``, ``cli``, ``mcp``, ...: the `Invocation.channel` of what comes through it.
        port: Where it listens; 0 for any free port, None if it does not listen.
        port_option: The name of the option that sets the port, for messages.
        paths: The path prefixes it answers, such as ``("/mcp",)``. On a port that channels share, a request goes to
            the channel with the longest fitting prefix. ``/`` takes the rest.
        is_embedded: Whether `Nexus.asgi_app` has it, too.
        shares_port: Whether several processes may listen on its port at once, each taking a part of the connections.
        serves_workers: Whether it listens, too, in a process that takes no calls and works on durable runs alone.
        serves_itself: Whether `serve` answers on its port, in place of the platform's server.
        unguarded: What to set so that it asks callers who they are, where it answers without the pipeline and does not:
            such a port is not opened to other machines.
        parameter_source: Where its callers' parameters come from. Parameter resolvers get headers and query as well
            with ``BODY``, the arguments of the command with ``OPTION``, the tool's name and call with ``TOOL``.
        takes_routes: Whether routes that name no channel appear on its port.
        answers: The path below which it takes answers to questions by link, such as ``/api/answers``; "" without one.
    """

    name: str = ""
    port: int | None = None
    port_option: str = ""
    paths: Sequence[str] = ("/",)
    is_embedded: bool = True
    shares_port: bool = False
    serves_workers: bool = False
    serves_itself: bool = False
    unguarded: str = ""
    parameter_source: ParameterSource = ParameterSource.CODE
    takes_routes: bool = False
    answers: str = ""

    def asgi_app(self) -> ASGIApp | None:
        """Return the ASGI application, called once at start-up, or None if the channel does not listen."""
        return None

    def serve(self, bound: socket.socket) -> None:
        """Begin to answer on a port, apart from the event loop. Called where `serves_itself`; `stop` ends it."""

    async def start(self) -> None:
        """Get ready to answer. Called once, after every plugin has started. If it raises, it leaves nothing open."""

    async def drain(self) -> None:
        """End streams that wait for news. Called when the stop begins, while connections are still open."""

    async def stop(self) -> None:
        """Let go of everything. Called once, after the last request."""


@dataclass(frozen=True, slots=True)
class Route:
    """An ASGI application that a plugin adds next to the channels' own: ``Route("/health", app)``.

    Attributes:
        path: The prefix it answers.
        app: Called with the scope unchanged: it sees the whole path.
        channel: The name of the channel on whose port it appears. Default: the channel that takes routes, which is the
            API. None for that one or, where it does not listen, the first one that does.
    """

    path: str
    app: ASGIApp
    channel: str | None = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a plugin adds to the command line: ``Command("keys", keys_app, "Manage API keys")``."""

    name: str
    callback: Callable[..., Any]
    help: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """One address and what answers there.

    Attributes:
        channels: The names of the channels that share it.
        sockets: Bound, not yet listening. The server owns and closes them.
        app: The application, with routing between the channels and the guards already in front.
        url: The address as a URL without a path, such as ``http://127.0.0.1:8000``.
    """

    channels: tuple[str, ...]
    sockets: tuple[socket.socket, ...]
    app: ASGIApp
    url: str


class Server(Protocol):
    """Serves ASGI applications. Given by ``nexus_register_servers`` and chosen by the option ``server``.

    Attributes:
        name: What the option says.
        scheme: ``https`` where it encrypts; without it, ``http``.
    """

    name: str

    async def serve(self, listeners: Sequence[Listener], started: asyncio.Event, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then end every connection within a few seconds and return.

        Sets ``started`` once every listener accepts connections.
        """
