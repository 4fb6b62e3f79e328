"""The stage of calls that wait for others of their key: in the store that processes share, if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.pipeline.serial import Serial
from nexus_core.state.heartbeat import Heartbeat
from nexus_core.state.memory_store import MEMORY
from nexus_core.state.queues import LocalQueues, QueueLimits, Queues
from nexus_core.state.shared_queues import SharedQueues

if TYPE_CHECKING:
    from nexus_core.app.state import PlatformState
    from nexus_core.pipeline.admission import Admission
    from nexus_core.pipeline.execution import Execution
    from nexus_core.pipeline.idempotency import Idempotency
    from nexus_core.runs.recorder import RunRecorder
    from nexus_core.state.sessions import SessionStore


def serial_stage(
    state: PlatformState, sessions: SessionStore, idempotency: Idempotency, execution: Execution,
    admission: Admission, recorder: RunRecorder | None,
) -> Serial:  # fmt: skip
    """Return the stage. Its queues are in the store of shared state; if that is in memory, where the sessions are."""
    options = state.options
    limits = QueueLimits(options.max_queued_per_key, options.max_queued_calls)
    store, heartbeat = idempotency.store, idempotency.heartbeat  # one is enough for both
    if store.name == MEMORY:
        name = getattr(sessions, "store_name", MEMORY)
        store = next((each for each in state.stores if each.name == name), store)
        heartbeat = Heartbeat(store)
    is_shared = store.name != MEMORY
    queues: Queues = SharedQueues(store, heartbeat, limits) if is_shared else LocalQueues(limits)
    return Serial(queues, limits, sessions, state.runs, execution, admission, recorder)
