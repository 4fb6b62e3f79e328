"""Makes the breaker that the options ask for."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from nexus_breaker.breaker import Breaker, rules_of
from nexus_breaker.records import Records
from nexus_breaker.shared import Outage, SharedCircuit
from nexus_breaker.states import NAMES, Rules
from nexus_core import ChannelEvent
from nexus_core.state.memory_store import MEMORY
from nexus_core.types.measurement import Measurement

if TYPE_CHECKING:
    from nexus_breaker.breaker import MakeShared
    from nexus_breaker.circuit import Announce
    from nexus_breaker.settings import BreakerSettings
    from nexus_breaker.states import State
    from nexus_core import Nexus

log = logging.getLogger(__name__)

CIRCUIT_OPENED = "circuit.opened"
CIRCUIT_CLOSED = "circuit.closed"


def build(nexus: Nexus, settings: BreakerSettings) -> Breaker:
    """Return the breaker of a platform.

    Raises:
        ConfigurationError: There is no such store, or a workflow's metadata is wrong.
    """
    rules = Rules(settings.circuit_breaker_failure_threshold, settings.circuit_breaker_reset_timeout)
    for name in nexus.list_workflows():
        rules_of(nexus.workflows.get(name), rules)
    announce = _announcer(nexus)
    make_shared = _maker(nexus, settings, announce)
    return Breaker(rules, nexus.options.workflow_timeout, announce, make_shared)


def measurements(nexus: Nexus, settings: BreakerSettings) -> list[Measurement]:
    """Return how each circuit stands, for those who export metrics."""

    def states() -> list[tuple[tuple[str, str], float]]:
        every = [each for breaker in settings.built for each in breaker.states()]
        found = [(name, now) for name, now in every if nexus.workflows.find(name) is not None]
        return [((name, state), float(state == now)) for name, now in found for state in NAMES]

    return [
        Measurement(
            "nexus_circuit_state", "gauge", "Whether a workflow's circuit is in a state.", ("workflow", "state"), states
        )
    ]


def _announcer(nexus: Nexus) -> Announce:
    """Return what logs a circuit that opens or closes, and publishes an event."""

    def announce(name: str, state: State, rules: Rules) -> None:
        if state.until is None:
            log.warning('The circuit of "%s" is closed again', name)
            nexus.events.publish(ChannelEvent(CIRCUIT_CLOSED, name))
        else:
            log.warning(
                'The circuit of "%s" is open for %g s, after %d failures', name, rules.reset_timeout, state.failures
            )
            data = {"failures": state.failures, "seconds": rules.reset_timeout}
            nexus.events.publish(ChannelEvent(CIRCUIT_OPENED, name, data=data))

    return announce


def _maker(nexus: Nexus, settings: BreakerSettings, announce: Announce) -> MakeShared | None:
    """Return what makes circuits in the store, unless that is this process's memory."""
    store = nexus.store(settings.circuit_breaker_backend, "circuit_breaker_backend")
    if store.name == MEMORY:
        return None
    records, outage, tasks = Records(time.monotonic), Outage(store.name), settings.tasks

    def make(name: str, rules: Rules) -> SharedCircuit:
        return SharedCircuit(
            name, rules, time.monotonic, announce, store=store, records=records, outage=outage, tasks=tasks
        )

    return make
