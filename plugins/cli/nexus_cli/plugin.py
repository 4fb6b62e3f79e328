"""Hook implementations of the plugin ``cli``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Channel, Nexus


@hookimpl
def nexus_register_settings() -> type:
    """Give the channel's options."""
    from nexus_cli.settings import CliSettings

    return CliSettings


@hookimpl
def nexus_register_services(nexus: Nexus) -> dict[str, object]:
    """Give command lines in this process."""
    from nexus_cli.embedded import CommandLine

    return {"command_line": CommandLine(nexus)}


@hookimpl
def nexus_register_channels(nexus: Nexus) -> list[Channel]:
    """Give the channel."""
    from nexus_cli.server.channel import CliChannel
    from nexus_cli.settings import CliSettings

    return [CliChannel(nexus, nexus.settings(CliSettings))]
