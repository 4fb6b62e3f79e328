"""What happens on a platform, and handlers of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_core.events.event import ChannelEvent as ChannelEvent
    from nexus_core.events.handlers import EventHandler as EventHandler

__getattr__, __dir__, __all__ = names(
    __name__,
    EventHandler="nexus_core.events.handlers",
    ChannelEvent="nexus_core.events.event",
)
