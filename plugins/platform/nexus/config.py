"""Options as objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_core.channel_config import ChannelConfig as ChannelConfig
    from nexus_core.config import ProductionConfig as ProductionConfig

__getattr__, __dir__, __all__ = names(
    __name__,
    ProductionConfig="nexus_core.config",
    ChannelConfig="nexus_core.channel_config",
)
