"""`McpChannel`: imports the MCP library after the start of the process, and passes requests to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, BinaryIO

from nexus_toolkit.cors import Cors
from nexus_toolkit.endpoints import Endpoint
from nexus_toolkit.hosts import HostOriginGuard

from nexus_core import Channel, ParameterSource
from nexus_mcp.http import PATH, HttpFront
from nexus_mcp.open_sessions import OpenSessions
from nexus_mcp.stdio import redirected

if TYPE_CHECKING:
    from nexus_core import Platform
    from nexus_core.server.channel import ASGIApp
    from nexus_mcp.server import McpServer
    from nexus_mcp.settings import McpSettings
    from nexus_mcp.transport import HttpTransport

PRELOAD_SECONDS = 2.0
"""Seconds after the start until the library is imported, unless a request needs it earlier."""


class McpChannel(Channel):
    """Workflows as MCP tools.

    Args:
        platform: The platform.
        settings: The plugin's options.
    """

    name = "mcp"
    port_option = "mcp_port"
    paths = (PATH,)
    endpoints = (
        Endpoint(PATH, ("POST",), "Messages of the Model Context Protocol.", (200, 202)),
        Endpoint(PATH, ("GET",), "Stream of the server's messages to a session, which does not end.", (200,)),
        Endpoint(PATH, ("DELETE",), "End a session.", (200,)),
    )
    parameter_source = ParameterSource.TOOL

    def __init__(self, platform: Platform, settings: McpSettings) -> None:
        self.platform = platform
        self.settings = settings
        self.port = settings.mcp_port
        self._loading: asyncio.Task[HttpTransport] | None = None
        self._preload: asyncio.TimerHandle | None = None
        origins = settings.mcp_allowed_origins
        guard = HostOriginGuard(platform.options, origins, origins_option="mcp_allowed_origins", is_strict=True)
        self._open = OpenSessions(settings.max_concurrent_sessions, settings.sessions_per_caller)
        self._front = HttpFront(guard, platform, self._transport)
        self._front.streams = settings.enable_streaming
        self._app = Cors(self._front, guard, b"GET, POST, DELETE")

    def asgi_app(self) -> ASGIApp:
        """Return the application. It receives whole paths, also under a ``root_path``."""
        return self._app

    def check_sessions(self) -> dict[str, int]:
        """Return the number of sessions and its limit.

        Raises:
            RuntimeError: No further session can be opened.
        """
        return self._open.check()

    async def start(self) -> None:
        """Import the library later, in a thread, so that the process is ready at once."""
        loop = asyncio.get_running_loop()
        self._preload = loop.call_later(PRELOAD_SECONDS, self._load)

    async def drain(self) -> None:
        """End open streams. `stop` does that as well."""
        if (transport := self._loaded()) is not None:
            await transport.drain()

    async def stop(self) -> None:
        """End sessions and streams."""
        if self._preload is not None:
            self._preload.cancel()
        if self._loading is None:
            return
        self._loading.cancel()  # does nothing once it is loaded
        await asyncio.wait({self._loading})
        if (transport := self._loaded()) is not None:
            await transport.stop()

    def _loaded(self) -> HttpTransport | None:
        loading = self._loading
        if loading is None or not loading.done() or loading.cancelled() or loading.exception() is not None:
            return None
        return loading.result()

    def _load(self) -> asyncio.Task[HttpTransport]:
        if self._loading is None or (self._loading.done() and self._loaded() is None):
            self._loading = asyncio.get_running_loop().create_task(self._start_transport(), name="nexus-mcp-load")
        return self._loading

    async def _transport(self) -> HttpTransport:
        if (transport := self._loaded()) is not None:
            return transport
        return await asyncio.shield(self._load())

    async def _start_transport(self) -> HttpTransport:
        await self.platform.threads.call(_import_library)
        from nexus_mcp.transport import HttpTransport

        transport = HttpTransport(
            self.build_server(),
            max_body_bytes=self.platform.options.max_body_bytes,
            open_sessions=self._open,
            idle_timeout=self.settings.mcp_session_idle_timeout,
            **self.transport_options(),
        )
        try:
            await transport.start()
        except BaseException:  # cancelled by `stop`, for one
            await transport.stop()
            raise
        return transport

    def build_server(self) -> McpServer:
        """Return the server. Called once for HTTP, and once for stdio, after the import of the library."""
        from nexus_mcp.server import McpServer

        return McpServer(self.platform, self.settings)

    def transport_options(self) -> dict[str, Any]:
        """Return further arguments of the SDK's ``StreamableHTTPSessionManager``, such as an event store."""
        return {} if self.settings.enable_streaming else {"json_response": True}

    async def serve_stdio(self) -> None:
        """Serve one client on standard input and output until it closes the input.

        Meanwhile the output of the process goes to standard error: standard output is for the protocol alone.
        """
        with redirected() as (reader, writer):
            await self.serve_streams(reader, writer)

    async def serve_streams(self, reader: BinaryIO, writer: BinaryIO) -> None:
        """Serve one client that writes its messages into ``reader``, a line each, and reads from ``writer``."""
        if self._preload is not None:
            self._preload.cancel()  # for HTTP only
        await self.platform.threads.call(_import_library)
        from nexus_mcp.stdio_transport import StdioTransport

        options = self.platform.options
        transport = StdioTransport(reader, writer, self.platform.threads, options.max_body_bytes)
        server = self.build_server()
        try:
            await transport.serve(server, options.shutdown_grace)
        finally:
            await server.close()


def _import_library() -> None:
    import nexus_mcp.server
    import nexus_mcp.transport  # noqa: F401
