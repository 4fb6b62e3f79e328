"""Hook implementations of the plugin ``hypercorn``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Nexus, Server


@hookimpl
def nexus_register_settings() -> type:
    """Give the server's options."""
    from nexus_hypercorn.settings import HypercornSettings

    return HypercornSettings


@hookimpl
def nexus_register_servers(nexus: Nexus) -> list[Server]:
    """Give the server."""
    from nexus_hypercorn.server import HypercornServer
    from nexus_hypercorn.settings import HypercornSettings

    return [HypercornServer(nexus.settings(HypercornSettings))]
