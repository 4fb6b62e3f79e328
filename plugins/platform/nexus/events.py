"""Events, and their handlers."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    EventHandler="nexus_core.events.handlers",
    ChannelEvent="nexus_core.events.event",
)
