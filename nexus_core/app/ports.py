"""The ports of a platform: those of its channels, or of a worker, which has none for calls."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nexus_core.app.lifecycle import finish_work
from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party
from nexus_core.server import listeners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from nexus_core.app.state import PlatformState, Running
    from nexus_core.server.channel import Channel, Listener, Server

log = logging.getLogger(__name__)

ADD_CHANNEL = f"{first_party.hint('channel')} adds REST; nexus plugins list shows what is installed."
"""What to do where no plugin has a channel."""


@asynccontextmanager
async def serving(
    state: PlatformState, start: Callable[[], Awaitable[Running]], stop: Callable[[], Awaitable[None]],
    *, only_works: bool = False,
) -> AsyncIterator[list[Listener]]:  # fmt: skip
    """Start, listen, and stop at the end.

    Args:
        state: The parts of the platform.
        start: Starts it.
        stop: Stops it.
        only_works: Whether it takes no calls, and works on durable runs alone: only channels that serve workers too
            (`Channel.serves_workers`) listen.
    """
    running = await start()
    if running.is_served:
        raise ConfigurationError("This platform is being served already.")
    running.is_served = True
    try:
        channels = running.channels
        if only_works:
            channels = [channel for channel in channels if channel.serves_workers and channel.port is not None]
            _say_what_is_worked_on(state, running)
        if channels or not only_works:
            _refuse_unguarded(state, running, channels)
        needs_server = not only_works or any(not channel.serves_itself for channel in channels)
        server = _server(state, running) if needs_server else None
        scheme = getattr(server, "scheme", "http")
        bound = listeners.bind(channels, running.routes, state.options.host, running.front, scheme)
        try:
            listeners.serve_own(channels, state.options.host)
        except BaseException:
            listeners.close(bound)
            raise
    except BaseException:
        await stop()
        raise
    if not only_works and all(channel.port is None for channel in channels):
        log.warning("No port is open: no active plugin has a channel that listens. %s", ADD_CHANNEL)
    started, ending = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(_served(server, bound, started, ending), name="nexus-server")
    waiting = asyncio.create_task(started.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            listeners.close(bound)
            task.result()
            name = "" if server is None else server.name
            raise ConfigurationError(f'The server "{name}" stopped before it was listening.')
        yield bound
        await finish_work(state, running)
    finally:
        waiting.cancel()
        ending.set()
        await asyncio.wait({task})
        await stop()
    if task.exception() is not None:
        raise task.exception()  # type: ignore[misc]


def _say_what_is_worked_on(state: PlatformState, running: Running) -> None:
    """Log what a worker works on.

    Raises:
        ConfigurationError: It would work on nothing.
    """
    worker = None if running.durable is None else running.durable.worker
    if worker is None:
        raise ConfigurationError("A worker works on durable runs: set run_engine, to dbos for example, and run_store.")
    names = sorted(worker.offers())
    if not names:
        raise ConfigurationError(
            "There is nothing to work on: no workflow is durable. Register one with durable=True, or set "
            "durable_workflows=all."
        )
    log.info("Working on durable runs, %d at once: %s", worker.concurrency, ", ".join(names))


async def _served(
    server: Server | None, bound: Sequence[Listener], started: asyncio.Event, ending: asyncio.Event
) -> None:
    """Let a server serve; where nothing has a port for it, the platform runs all the same until it is stopped."""
    if server is not None:
        await server.serve(bound, started, ending)
    if not bound:
        started.set()
        await ending.wait()


def _refuse_unguarded(state: PlatformState, running: Running, channels: Sequence[Channel]) -> None:
    options = state.options
    if not (options.insecure or listeners.is_loopback(options.host)):
        _refuse_unauthenticated(running, channels, f"host {options.host!r} is reachable from other machines, but")


def _refuse_unauthenticated(running: Running, channels: Sequence[Channel], why: str) -> None:
    plugin, option = first_party.provider("authentication")
    otherwise = "or insecure=True behind a proxy that authenticates."
    if not running.authenticates:
        raise ConfigurationError(f'{why} authentication is off: set {option}=True (plugin "{plugin}"), {otherwise}')
    for channel in channels:
        if channel.port is not None and channel.unguarded:
            raise ConfigurationError(
                f'{why} the channel "{channel.name}" does not authenticate its callers: '
                f"set {channel.unguarded}, {otherwise}"
            )


def _server(state: PlatformState, running: Running) -> Server:
    wanted = state.options.server
    for server in running.servers:
        if wanted in (None, server.name):
            _refuse_to_drop_https(server, running.servers)
            return server
    if wanted is not None:
        names = [server.name for server in running.servers]
        raise ConfigurationError(
            f"There is no server {wanted!r}; installed plugins provide: {', '.join(names) or 'none'}."
        )
    raise ConfigurationError(f"Nothing can listen: no server plugin is active. {first_party.hint('server')}")


def _refuse_to_drop_https(chosen: Server, servers: Iterable[Server]) -> None:
    """Make sure that HTTPS, where it is on for one server, is not dropped because another one serves."""
    https = [server.name for server in servers if getattr(server, "scheme", "http") == "https"]
    if https and chosen.name not in https:
        raise ConfigurationError(
            f"HTTPS is on for the server {https[0]!r}, but the server {chosen.name!r} would serve without it: "
            f"set server={https[0]!r}, or switch HTTPS off."
        )
