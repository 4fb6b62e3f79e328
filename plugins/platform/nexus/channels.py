"""The channels, and their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_api.channel import ApiChannel
    from nexus_cli.server.channel import CliChannel
    from nexus_mcp.channel import McpChannel

    from nexus_core.options.channel import ChannelConfig as ChannelConfig
    from nexus_core.server.channel import Channel as Channel

    APIChannel, CLIChannel, MCPChannel = ApiChannel, CliChannel, McpChannel

__getattr__, __dir__, __all__ = names(
    __name__,
    ChannelConfig="nexus_core.options.channel",
    Channel="nexus_core.server.channel",
    APIChannel="nexus_api.channel:ApiChannel",
    CLIChannel="nexus_cli.server.channel:CliChannel",
    MCPChannel="nexus_mcp.channel:McpChannel",
)
