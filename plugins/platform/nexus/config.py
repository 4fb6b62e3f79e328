"""Options as objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_core.options.channel import ChannelConfig as ChannelConfig
    from nexus_core.options.production import ProductionConfig as ProductionConfig

__getattr__, __dir__, __all__ = names(
    __name__,
    ProductionConfig="nexus_core.options.production",
    ChannelConfig="nexus_core.options.channel",
)
