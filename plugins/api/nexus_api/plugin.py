"""The plugin ``api``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_api.settings import ApiSettings
from nexus_core import Plugin

if TYPE_CHECKING:
    from nexus_core import Channel


class ApiPlugin(Plugin[ApiSettings]):
    """REST, WebSocket and event streams, with OpenAPI and a documentation page."""

    def nexus_register_channels(self) -> list[Channel]:
        """Return the channel."""
        from nexus_api.channel import ApiChannel

        return [ApiChannel(self.platform, self.settings)]
