# Written by `make generate`.

from nexus_api.channel import ApiChannel as APIChannel
from nexus_cli.server.channel import CliChannel as CLIChannel
from nexus_core.options.channel import ChannelConfig as ChannelConfig
from nexus_core.server.channel import Channel as Channel
from nexus_mcp.channel import McpChannel as MCPChannel

__all__ = [
    "APIChannel",
    "CLIChannel",
    "Channel",
    "ChannelConfig",
    "MCPChannel",
]
