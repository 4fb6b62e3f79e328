"""Hook implementations of the plugin ``api``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Channel, Nexus


@hookimpl
def nexus_register_settings() -> type:
    """Give the channel's options."""
    from nexus_api.settings import ApiSettings

    return ApiSettings


@hookimpl
def nexus_register_channels(nexus: Nexus) -> list[Channel]:
    """Give the channel."""
    from nexus_api.channel import ApiChannel
    from nexus_api.settings import ApiSettings

    return [ApiChannel(nexus, nexus.settings(ApiSettings))]
