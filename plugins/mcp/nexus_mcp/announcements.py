"""Notifies clients of both protocol versions that the list of tools, or a resource, has changed."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent, ToolsListChanged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.connection import Connection

log = logging.getLogger(__name__)

SEND_SECONDS = 5.0
"""Seconds for one notification; other clients do not wait for it."""

SUBSCRIPTIONS = 1000
"""Most subscriptions of one session."""


def _nobody(_: Callable[[ServerEvent], None]) -> None:
    """Ignore a stream."""


subscribing: ContextVar[Callable[[Callable[[ServerEvent], None]], None]] = ContextVar("subscribing", default=_nobody)
"""Called with the stream that the current request opens, for events of its caller alone."""


class Listeners:
    """The open ``subscriptions/listen`` streams of the stateless protocol (the SDK's ``SubscriptionBus``)."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def tell(self, event: ServerEvent) -> None:
        """Put an event into every stream; each has a bounded buffer."""
        for listener in list(self._listeners.values()):
            listener(event)

    async def publish(self, event: ServerEvent) -> None:
        """See `tell`."""
        self.tell(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Add a stream, and call `subscribing` with it. Returns the function that removes it."""
        token = object()
        self._listeners[token] = listener
        subscribing.get()(listener)
        return lambda: _drop(self._listeners, token)


def _drop(listeners: dict[object, Callable[[ServerEvent], None]], token: object) -> None:
    listeners.pop(token, None)


class Announcements:
    """Collects changes and announces them together."""

    def __init__(self) -> None:
        self.listeners = Listeners()
        self._connections: set[Connection] = set()
        self._subscribers: defaultdict[str, set[Connection]] = defaultdict(set)
        self._lists = False
        self._uris: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Future[None]] = set()

    def connect(self, connection: Connection) -> None:
        """Announce changes to a protocol session, until it ends."""
        if connection in self._connections:
            return  # it was initialized before
        self._connections.add(connection)
        connection.exit_stack.callback(self._disconnect, connection)

    def _disconnect(self, connection: Connection) -> None:
        self._connections.discard(connection)
        for uri in [uri for uri, subscribers in self._subscribers.items() if connection in subscribers]:
            self.unsubscribe(connection, uri)

    def subscribe(self, connection: Connection, uri: str) -> bool:
        """Announce changes of a resource to a protocol session. Returns False if it has too many subscriptions."""
        if sum(connection in subscribers for subscribers in self._subscribers.values()) >= SUBSCRIPTIONS:
            return False
        self._subscribers[uri].add(connection)
        return True

    def unsubscribe(self, connection: Connection, uri: str) -> None:
        """Stop announcing changes of a resource to a session."""
        subscribers = self._subscribers.get(uri, set())
        subscribers.discard(connection)
        if not subscribers:
            self._subscribers.pop(uri, None)

    def send_soon(self, sending: Awaitable[None]) -> None:
        """Send a notification to one client, which may have disconnected."""
        task = asyncio.ensure_future(_send(sending))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    def lists_changed(self) -> None:
        """Announce that the lists of tools and resources have changed."""
        self._lists = True
        self._announce_soon()

    def updated(self, uri: str) -> None:
        """Announce that a resource has changed, if it may have subscribers."""
        if self.listeners or uri in self._subscribers:
            self._uris.add(uri)
            self._announce_soon()

    def _announce_soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._announce(), name="nexus-mcp-announcements")

    async def _announce(self) -> None:
        while self._lists or self._uris:
            lists, uris = self._lists, self._uris
            self._lists, self._uris = False, set()
            sends: list[Awaitable[None]] = []
            if lists:
                self.listeners.tell(ToolsListChanged())
                self.listeners.tell(ResourcesListChanged())
                sends += [_send_lists_changed(connection) for connection in self._connections]
            for uri in uris:
                self.listeners.tell(ResourceUpdated(uri=uri))
                subscribers = self._subscribers.get(uri, ())
                sends += [_send(connection.send_resource_updated(uri)) for connection in subscribers]
            await asyncio.gather(*sends)

    async def close(self) -> None:
        """Stop announcing."""
        tasks = [*self._sends, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _send_lists_changed(connection: Connection) -> None:
    await _send(connection.send_tool_list_changed())
    await _send(connection.send_resource_list_changed())


async def _send(sending: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await sending
    except Exception as exc:
        log.debug("A client could not be notified of a change: %r", exc)
