"""Where calls wait for others of their key: in the store that processes share, if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.state.heartbeat import Heartbeat
from nexus_core.state.memory_store import MEMORY
from nexus_core.state.queues import LocalQueues, QueueLimits, Queues
from nexus_core.state.shared_queues import SharedQueues

if TYPE_CHECKING:
    from nexus_core.app.state import PlatformState
    from nexus_core.state.sessions import SessionStore
    from nexus_core.state.stores import Store


def queues_of(
    state: PlatformState, sessions: SessionStore, heartbeat: Heartbeat, store: Store, limits: QueueLimits
) -> tuple[list[Heartbeat], Queues]:
    """Return the queues of calls, and the heartbeats in use: in ``store``, or where that is in memory with sessions."""
    if store.name != MEMORY:
        return [heartbeat], SharedQueues(store, heartbeat, limits)
    name = getattr(sessions, "store_name", MEMORY)
    other = next((each for each in state.stores if each.name == name != MEMORY), None)
    if other is None:
        return [heartbeat], LocalQueues(limits)
    second = Heartbeat(other)
    return [heartbeat, second], SharedQueues(other, second, limits)
