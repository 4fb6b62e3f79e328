"""The plugin ``cli``: the channel for command lines, and command lines in this process."""

from __future__ import annotations

from nexus_cli.settings import CliSettings
from nexus_core import Channel, Plugin


class CliPlugin(Plugin[CliSettings]):
    """Serves command lines on a port, and runs them in this process."""

    def nexus_register_services(self) -> dict[str, object]:
        """Return the service ``command_line``."""
        from nexus_cli.embedded import CommandLine

        return {"command_line": CommandLine(self.platform)}

    def nexus_register_channels(self) -> list[Channel]:
        """Return the channel."""
        from nexus_cli.server.channel import CliChannel

        return [CliChannel(self.platform, self.settings.cli_port)]
