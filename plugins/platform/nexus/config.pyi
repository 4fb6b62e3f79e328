# Written by `make generate`.

from nexus_core.options.channel import ChannelConfig as ChannelConfig
from nexus_core.options.production import ProductionConfig as ProductionConfig

__all__ = [
    "ChannelConfig",
    "ProductionConfig",
]
