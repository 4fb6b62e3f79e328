"""The plugin ``mcp``. The MCP library takes over a second to import: `McpChannel` imports it when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import Platform, Plugin
from nexus_mcp.settings import McpSettings

if TYPE_CHECKING:
    from nexus_core import Channel
    from nexus_core.types.health import HealthCheck
    from nexus_mcp.channel import McpChannel


class McpPlugin(Plugin[McpSettings]):
    """Workflows as MCP tools, over streamable HTTP and stdio."""

    def __init__(self, platform: Platform, settings: McpSettings) -> None:
        super().__init__(platform, settings)
        self._channel: McpChannel | None = None

    def nexus_register_channels(self) -> list[Channel]:
        """Return the channel."""
        from nexus_mcp.channel import McpChannel

        self._channel = McpChannel(self.platform, self.settings)
        return [self._channel]

    def nexus_register_health_checks(self) -> list[HealthCheck]:
        """Return the check that a session can be opened. Not critical: a caller could make the platform unready."""
        from nexus_core.types.health import HealthCheck

        return [HealthCheck("mcp_sessions", self._check_sessions, is_critical=False)]

    async def _check_sessions(self) -> dict[str, int]:
        return {} if self._channel is None else self._channel.check_sessions()
