"""The plugin ``hypercorn``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import Plugin
from nexus_hypercorn.settings import HypercornSettings

if TYPE_CHECKING:
    from nexus_core import Server


class HypercornPlugin(Plugin[HypercornSettings]):
    """Serves every channel that listens: HTTP/1.1, HTTPS and WebSocket."""

    def nexus_register_servers(self) -> list[Server]:
        """Return the server."""
        from nexus_hypercorn.server import HypercornServer

        return [HypercornServer(self.settings)]
