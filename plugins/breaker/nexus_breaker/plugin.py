"""The plugin ``breaker``."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from nexus_breaker.settings import CIRCUIT_CLOSED, CIRCUIT_OPENED, BreakerSettings
from nexus_core import ChannelEvent, Plugin

if TYPE_CHECKING:
    from nexus_breaker.breaker import Breaker, SharedCircuitFactory
    from nexus_breaker.shared import SharedCircuit
    from nexus_breaker.states import CircuitRules, CircuitState
    from nexus_breaker.tasks import BackgroundTasks
    from nexus_core import Interceptor, Platform
    from nexus_core.types.measurement import Measurement

log = logging.getLogger(__name__)


class BreakerPlugin(Plugin[BreakerSettings]):
    """A circuit breaker for each workflow, if ``enable_circuit_breaker`` is set."""

    def __init__(self, platform: Platform, settings: BreakerSettings) -> None:
        super().__init__(platform, settings)
        self._breaker: Breaker | None = None
        self._tasks: BackgroundTasks | None = None

    async def shutdown(self) -> None:
        """Cancel background tasks."""
        if self._tasks is not None:
            await self._tasks.close()

    def nexus_register_interceptors(self) -> list[Interceptor]:
        """Return the circuit breaker.

        Raises:
            ConfigurationError: Unknown store, or a workflow's metadata is invalid.
        """
        settings, platform = self.settings, self.platform
        if not settings.enable_circuit_breaker:
            return []
        from nexus_breaker.breaker import Breaker, rules_of
        from nexus_breaker.states import CircuitRules

        rules = CircuitRules(settings.circuit_breaker_failure_threshold, settings.circuit_breaker_reset_timeout)
        for workflow in platform.workflows.every():
            rules_of(workflow, rules)
        timeout = platform.options.workflow_timeout
        self._breaker = Breaker(rules, timeout, self._announce, self._shared_circuit_factory())
        return [self._breaker]

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return the state of each circuit."""
        if not self.settings.enable_circuit_breaker:
            return []
        from nexus_breaker.states import NAMES
        from nexus_core.types.measurement import Measurement

        def states() -> list[tuple[tuple[str, str], float]]:
            found = () if self._breaker is None else self._breaker.states()
            known = [(name, now) for name, now in found if self.platform.workflows.find(name) is not None]
            return [((name, state), float(state == now)) for name, now in known for state in NAMES]

        help_text = "Whether a workflow's circuit is in the state closed, open or half_open: 1 or 0."
        return [Measurement("nexus_circuit_state", "gauge", help_text, ("workflow", "state"), states)]

    def _announce(self, name: str, state: CircuitState, rules: CircuitRules) -> None:
        """Log a circuit that opens or closes, and publish an event."""
        if state.until is None:
            log.warning('The circuit of "%s" is closed again', name)
            self.platform.events.publish(ChannelEvent(CIRCUIT_CLOSED, name))
            return
        seconds, failures = rules.reset_timeout, state.failures
        log.warning('The circuit of "%s" is open for %g s, after %d failures', name, seconds, failures)
        data = {"failures": failures, "seconds": seconds}
        self.platform.events.publish(ChannelEvent(CIRCUIT_OPENED, name, data=data))

    def _shared_circuit_factory(self) -> SharedCircuitFactory | None:
        """Return a function that creates circuits in the store; None if that is this process's memory."""
        from nexus_core.state.memory_store import MEMORY

        store = self.platform.store(self.settings.circuit_breaker_backend, "circuit_breaker_backend")
        if store.name == MEMORY:
            return None
        from nexus_toolkit.outage_log import OutageLog

        from nexus_breaker.records import Records
        from nexus_breaker.shared import SharedCircuit
        from nexus_breaker.tasks import BackgroundTasks

        tasks = self._tasks = BackgroundTasks()
        records = Records(time.monotonic)
        outage = OutageLog(
            log,
            f"The store {store.name} is unavailable: each process uses its own circuits",
            f"The store {store.name} is available again: processes share their circuits",
        )

        def make(name: str, rules: CircuitRules) -> SharedCircuit:
            return SharedCircuit(
                name, rules, time.monotonic, self._announce, store=store, records=records, outage=outage, tasks=tasks
            )

        return make
