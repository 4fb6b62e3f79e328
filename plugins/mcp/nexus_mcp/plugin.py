"""Hook implementations of the plugin ``mcp``. The MCP library, over a second to import, waits for its first user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Channel, Nexus
    from nexus_core.types.health import HealthCheck


@hookimpl
def nexus_register_settings() -> type:
    """Give the channel's options."""
    from nexus_mcp.settings import McpSettings

    return McpSettings


@hookimpl
def nexus_register_channels(nexus: Nexus) -> list[Channel]:
    """Give the channel."""
    from nexus_mcp.channel import McpChannel
    from nexus_mcp.settings import McpSettings

    return [McpChannel(nexus, nexus.settings(McpSettings))]


@hookimpl
def nexus_register_health_checks(nexus: Nexus) -> list[HealthCheck]:
    """Give the check that there is room for sessions. Readiness does not depend on it: callers could use it up."""
    from nexus_core.types.health import HealthCheck
    from nexus_mcp.channel import McpChannel

    async def check() -> dict[str, int]:
        channel = nexus.channel("mcp")
        return await channel.check_sessions() if isinstance(channel, McpChannel) else {}

    return [HealthCheck("mcp_sessions", check, is_critical=False)]
