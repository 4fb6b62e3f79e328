# Written by `make generate`.

from nexus_core.events.event import ChannelEvent as ChannelEvent
from nexus_core.events.handlers import EventHandler as EventHandler

__all__ = [
    "ChannelEvent",
    "EventHandler",
]
