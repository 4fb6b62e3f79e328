"""Options of the plugin ``cli``."""

from __future__ import annotations

from pydantic import Field

from nexus_core import PluginSettings


class CliSettings(PluginSettings):
    """Where a running server listens for command lines."""

    cli_port: int = Field(8001, ge=0, le=65535, description="The channel's port; 0 for any free one.")
