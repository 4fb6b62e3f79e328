"""All use of internals of the MCP SDK, which fit mcp 2.3; ``test_sdk.py`` notices when they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from mcp.server import ServerRequestContext
    from mcp.server.connection import Connection
    from mcp.server.streamable_http import StreamableHTTPServerTransport
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

MODERN_LOGGER = "mcp.server._streamable_http_modern"
"""The logger of a private module, which logs what clients send."""


def open_transports(manager: StreamableHTTPSessionManager) -> MutableMapping[str, StreamableHTTPServerTransport]:
    """Return the transports of the open sessions by session id: the manager has no public access to them."""
    return manager._server_instances


def connection_of(ctx: ServerRequestContext[Any]) -> Connection:
    """Return the connection of a request's session, which keeps state for as long as the session: it is private."""
    return ctx.session._connection
