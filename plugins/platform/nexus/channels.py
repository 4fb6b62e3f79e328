"""The channels, and their configuration."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    ChannelConfig="nexus_core.options.channel",
    Channel="nexus_core.server.channel",
    APIChannel="nexus_api.channel:ApiChannel",
    CLIChannel="nexus_cli.server.channel:CliChannel",
    MCPChannel="nexus_mcp.channel:McpChannel",
)
