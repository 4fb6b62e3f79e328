"""Options as objects."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    ProductionConfig="nexus_core.options.production",
    ChannelConfig="nexus_core.options.channel",
)
