"""`McpServer`: the handlers of the protocol's requests."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mcp import types
from mcp.server import CacheHint, NotificationOptions, Server
from mcp.server.subscriptions import ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from nexus_core import NexusError, NotFound
from nexus_core.errors import RateLimited
from nexus_core.events.event import WORKFLOW_REGISTERED, WORKFLOW_UNREGISTERED
from nexus_mcp import resources
from nexus_mcp._vendor_internals import connection_of
from nexus_mcp.announcements import SUBSCRIPTIONS, Announcements, subscribing
from nexus_mcp.caller import StdioMessage, caller_key, caller_of_message
from nexus_mcp.calls import Calls, failure, protocol_error
from nexus_mcp.following import CallersEvents, Changes
from nexus_mcp.library_log import LibraryLog
from nexus_mcp.platform_tools import PlatformTools, answered
from nexus_mcp.protocol_sessions import ProtocolSessions
from nexus_mcp.tools import Catalogue, page

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mcp.server import ServerRequestContext
    from mcp.server.caching import CacheableMethod
    from mcp.server.connection import Connection
    from mcp.server.context import CallNext, HandlerResult
    from mcp.server.models import InitializationOptions
    from mcp.server.subscriptions import ServerEvent

    from nexus_core import ChannelEvent, Platform
    from nexus_core.app.view import CallerView
    from nexus_mcp.settings import McpSettings

log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "Every tool is a workflow. Its structured result is {result, run_id}; the resource nexus://runs/{run_id} shows the "
    "run, nexus://workflows/{name} the workflow. A long call returns {run_id, status} and continues; "
    "the tool nexus_runs waits for its result. Calls with the same nexus_session share state."
)

DEFAULT_WAIT = 50.0
"""Seconds that ``nexus_runs`` waits where calls wait without limit."""

_EVENTS_KEY = "nexus/events"


CACHEABLE: tuple[CacheableMethod, ...] = (
    "tools/list", "resources/list", "resources/templates/list", "resources/read", "server/discover",
)  # fmt: skip
"""Results with a cache hint: not cacheable, since they differ by caller and may change at any time."""


class McpServer(Server[Any]):
    """One server for all connections of a channel.

    Args:
        platform: The platform, whose workflows are the tools.
        settings: The plugin's options. The limits of sessions apply to ``subscriptions/listen`` streams as well.

    Attributes:
        initialized: Sessions whose ``initialize`` has succeeded; `HttpTransport` removes them.
    """

    def __init__(self, platform: Platform, settings: McpSettings) -> None:
        self.platform = platform
        self.catalogue = Catalogue(platform.workflows)
        self.announcements = Announcements()
        self.initialized: set[str | None] = set()
        self._settings = settings
        self._calls = Calls(platform, settings.tool_timeout, settings.mcp_wait, streams=settings.enable_streaming)
        wait = settings.mcp_wait or DEFAULT_WAIT
        self._platform_tools = PlatformTools(platform, wait) if settings.mcp_platform_tools else None
        self._sessions = ProtocolSessions(platform)
        self._changes = Changes(platform, self._run_ended, self._session_changed)
        streams = settings.max_concurrent_sessions
        self._listening: Counter[str] = Counter()
        self._listen = ListenHandler(self.announcements.listeners, max_subscriptions=streams)
        super().__init__(
            settings.mcp_name,
            version=version("nexus-hub-mcp"),
            instructions=INSTRUCTIONS,
            cache_hints=dict.fromkeys(CACHEABLE, CacheHint(ttl_ms=0, scope="private")),
            # Without it, the SDK lists all tools again for each call that has arguments.
            get_tool_input_schema=self.input_schema,
            on_subscriptions_listen=self._listen_to if settings.enable_streaming else None,
        )
        self._add_handlers()
        # In place of the SDK's own spans: the pipeline's observers see each call, on every channel.
        self.middleware = [self._guard]
        self._unlisten = platform.events.listen(self._heard)
        self._library_log = LibraryLog()
        self._library_log.attach()

    def _add_handlers(self) -> None:
        """Add handlers that return plain objects, which saves creating and serializing the SDK's models."""
        add = self.add_request_handler
        add("tools/list", types.PaginatedRequestParams, self.list_tools)
        add("tools/call", types.CallToolRequestParams, self.call_tool)
        add("resources/list", types.PaginatedRequestParams, self.list_resources)
        add("resources/templates/list", types.PaginatedRequestParams, self.list_templates)
        add("resources/read", types.ReadResourceRequestParams, self.read_resource)
        add("resources/subscribe", types.SubscribeRequestParams, self._subscribe)
        add("resources/unsubscribe", types.UnsubscribeRequestParams, self._unsubscribe)

    def input_schema(self, name: str) -> Any:
        """Return the schema of a tool's arguments, or None if the tool does not exist."""
        tools = self._platform_tools
        return tools.input_schema(name) if tools and tools.has(name) else self.catalogue.input_schema(name)

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Announce list changes. The SDK's HTTP transport calls this without arguments, which would disable them."""
        settings = self._settings
        changes = notification_options or NotificationOptions(
            tools_changed=settings.enable_streaming and settings.enable_tool_discovery,
            resources_changed=settings.enable_streaming and settings.enable_resource_discovery,
        )
        return super().create_initialization_options(changes, experimental_capabilities, extensions)

    # Requests

    async def list_tools(self, ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams) -> dict[str, Any]:
        """Answer ``tools/list``: the workflows in name order."""
        view = await self._view(ctx)
        if not self._settings.enable_tool_discovery:
            return _page("tools", [], None)
        workflows, following = page(await view.permitted(self.catalogue.every()), params.cursor)
        tools = [self.catalogue.tool(workflow) for workflow in workflows]
        if following is None and self._platform_tools is not None:
            tools += self._platform_tools.list()
        return _page("tools", tools, following)

    async def call_tool(
        self, ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> dict[str, Any] | types.CallToolResult | types.InputRequiredResult:
        """Answer ``tools/call``: run a workflow."""
        tools = self._platform_tools
        if tools is not None and tools.has(params.name):
            try:
                return answered(await tools.call(await self._view(ctx), params.name, params.arguments or {}))
            except NexusError as exc:
                return failure(exc)
        own_session = self._sessions.of(connection_of(ctx), on_stdio=isinstance(ctx.request, StdioMessage | None))
        return await self._calls.call(ctx, params, own_session)

    async def list_resources(
        self, ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams
    ) -> dict[str, Any]:
        """Answer ``resources/list``: the workflows in name order."""
        view = await self._view(ctx)
        if not self._settings.enable_resource_discovery:
            return _page("resources", [], None)
        workflows, following = page(await view.permitted(self.catalogue.every()), params.cursor)
        return _page("resources", [resources.entry(each) for each in workflows], following)

    async def list_templates(
        self, ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams
    ) -> dict[str, Any]:
        """Answer ``resources/templates/list``."""
        await self._view(ctx)
        shown = resources.TEMPLATES if self._settings.enable_resource_discovery else []
        return _page("resourceTemplates", shown, None)

    async def read_resource(
        self, ctx: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> dict[str, Any] | types.ReadResourceResult:
        """Answer ``resources/read``."""
        return await resources.read(await self._view(ctx), str(params.uri))

    async def _subscribe(self, ctx: ServerRequestContext[Any], params: types.SubscribeRequestParams) -> dict[str, Any]:
        uri, connection, view = str(params.uri), connection_of(ctx), await self._view(ctx)
        if uri == resources.EVENTS:
            await self._follow_events(connection, view)
            return {}
        await self.check_seen(view, uri)
        await self._changes.begin()
        if not self.announcements.subscribe(connection, uri):
            raise MCPError(types.INVALID_REQUEST, f"This session has the most subscriptions allowed ({SUBSCRIPTIONS}).")
        return {}

    async def _follow_events(self, connection: Connection, view: CallerView) -> None:
        """Notify a protocol session of the events of its caller."""
        if _EVENTS_KEY in connection.state:
            return

        def tell() -> None:
            self.announcements.send_soon(connection.send_resource_updated(resources.EVENTS))

        events = connection.state[_EVENTS_KEY] = CallersEvents(view, tell)
        try:
            await events.begin()
        except BaseException:
            del connection.state[_EVENTS_KEY]
            raise
        connection.exit_stack.callback(events.close)

    async def _unsubscribe(
        self, ctx: ServerRequestContext[Any], params: types.UnsubscribeRequestParams
    ) -> dict[str, Any]:
        uri, connection = str(params.uri), connection_of(ctx)
        if uri == resources.EVENTS and (events := connection.state.pop(_EVENTS_KEY, None)) is not None:
            events.close()
        self.announcements.unsubscribe(connection, uri)
        return {}

    async def _listen_to(
        self, ctx: ServerRequestContext[Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        caller = caller_key(caller_of_message(ctx.request))
        if ctx.request is not None and self._listening[caller] >= self._settings.sessions_per_caller:
            raise RateLimited("Too many open subscriptions/listen streams (mcp_max_sessions_per_caller).")
        self._listening[caller] += 1
        try:
            return await self._listen_as_asked(ctx, params)
        finally:
            self._listening -= Counter([caller])

    async def _listen_as_asked(
        self, ctx: ServerRequestContext[Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        view = await self._view(ctx)
        uris = params.notifications.resource_subscriptions or ()
        if len(uris) > SUBSCRIPTIONS:
            raise MCPError(types.INVALID_REQUEST, f"A stream has at most {SUBSCRIPTIONS} subscriptions.")
        seen = [uri for uri in uris if str(uri) == resources.EVENTS or await self._sees(view, str(uri))]
        asked = params.notifications.model_copy(update={"resource_subscriptions": seen})
        if any(str(uri) != resources.EVENTS for uri in seen):
            await self._changes.begin()
        params = params.model_copy(update={"notifications": asked})
        if resources.EVENTS not in map(str, seen):
            return await self._listen(ctx, params)
        return await self._listen_to_events(ctx, params, view)

    async def _listen_to_events(
        self, ctx: ServerRequestContext[Any], params: types.SubscriptionsListenRequestParams, view: CallerView
    ) -> types.SubscriptionsListenResult:
        """Serve a stream with the events of its caller, in addition to what is announced to all."""
        told: list[Callable[[ServerEvent], None]] = []
        events = CallersEvents(view, lambda: [tell(ResourceUpdated(uri=resources.EVENTS)) for tell in told])
        await events.begin()
        token = subscribing.set(told.append)
        try:
            return await self._listen(ctx, params)
        finally:
            subscribing.reset(token)
            events.close()

    async def check_seen(self, view: CallerView, uri: str) -> None:
        """Check that a caller may read a resource; the existence of others is not revealed.

        Raises:
            NotFound: The resource does not exist, or belongs to another caller.
        """
        await resources.read(view, uri)

    async def _sees(self, view: CallerView, uri: str) -> bool:
        try:
            await self.check_seen(view, uri)
        except NotFound:
            return False
        return True

    async def _view(self, ctx: ServerRequestContext[Any]) -> CallerView:
        return await self.platform.view(caller_of_message(ctx.request))

    # Around requests

    async def _guard(self, ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
        """Hide the text of unexpected exceptions from the caller, and note initialized sessions."""
        try:
            with self._lease(ctx):
                result = await call_next(ctx)
        except (MCPError, ValidationError):
            raise
        except NexusError as exc:
            raise protocol_error(exc) from None
        except Exception:
            log.exception("Handling %s failed", ctx.method)
            unforeseen = NexusError("Internal error; the server's log has the reason.")
            raise protocol_error(unforeseen) from None
        if ctx.method == "initialize":
            self.initialized.add(connection_of(ctx).session_id)
        if ctx.method == "notifications/initialized":
            self.announcements.connect(connection_of(ctx))
        return result

    def _lease(self, ctx: ServerRequestContext[Any]) -> AbstractContextManager[object]:
        """Return the lease that ends a streaming request with the caller's credential; other requests are short."""
        meta = (ctx.params or {}).get("_meta")
        reports = isinstance(meta, dict) and "progressToken" in meta
        if ctx.method != "subscriptions/listen" and not reports:
            return nullcontext()
        return self.platform.credentials.lease(caller_of_message(ctx.request))

    def _heard(self, event: ChannelEvent) -> None:
        if event.type in (WORKFLOW_REGISTERED, WORKFLOW_UNREGISTERED):
            self.catalogue.changed(event.workflow_name)
            self.announcements.lists_changed()
            self.announcements.updated(resources.WORKFLOWS + event.workflow_name)

    def _run_ended(self, run_id: str) -> None:
        self.announcements.updated(resources.RUNS + run_id)

    def _session_changed(self, session_id: str) -> None:
        self.announcements.updated(resources.SESSIONS + session_id)

    def end_listening(self) -> None:
        """End every ``subscriptions/listen`` stream as the protocol defines."""
        self._listen.close()

    async def close(self) -> None:
        """Detach from the platform."""
        self._library_log.detach()
        self._unlisten()
        self.end_listening()
        await self._changes.close()
        await self.announcements.close()


def _page(member: str, items: list[dict[str, Any]], following: str | None) -> dict[str, Any]:
    page: dict[str, Any] = {member: items, "resultType": "complete"}
    if following is not None:
        page["nextCursor"] = following
    return page
