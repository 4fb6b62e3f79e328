"""`Breaker`: the interceptor that passes each call through its workflow's circuit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from nexus_breaker.circuit import Circuit
from nexus_breaker.shared import SharedCircuit
from nexus_breaker.states import CallOutcome, CircuitRules, name_of
from nexus_core import ConfigurationError, NexusError, Stage, WorkflowFailed, WorkflowTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_breaker.circuit import Announce, Clock
    from nexus_core import Invocation, Result, Workflow
    from nexus_core.pipeline.stage import Call

log = logging.getLogger(__name__)

METADATA = "circuit_breaker"
SharedCircuitFactory = Callable[[str, CircuitRules], SharedCircuit]


class Breaker:
    """A circuit breaker with one circuit for each workflow.

    Args:
        rules: The default rules of circuits.
        timeout: Default time limit of a run in seconds; None for no limit.
        announce: Called when a circuit opens or closes.
        shared_factory: Creates circuits that processes share; None for circuits of this process alone.
        clock: Returns the time in seconds; it never goes back.
    """

    stage = Stage.BREAKER

    def __init__(
        self,
        rules: CircuitRules,
        timeout: float | None,
        announce: Announce,
        shared_factory: SharedCircuitFactory | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._rules = rules
        self._timeout = timeout
        self._announce = announce
        self._shared_factory = shared_factory
        self._clock = clock
        self._circuits: WeakKeyDictionary[Workflow, Circuit | None] = WeakKeyDictionary()
        self._by_name: dict[str, tuple[ReferenceType[Workflow], Circuit]] = {}

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Refuse the call, or pass it on and record its outcome."""
        workflow = invocation.workflow
        assert workflow is not None  # set by the stage RESOLVE
        try:
            circuit = self._circuits[workflow]
        except KeyError:
            circuit = self.circuit_of(workflow)
        if circuit is None:
            return call_next(invocation)
        if isinstance(circuit, SharedCircuit):
            return self._through_shared(circuit, invocation, call_next)
        return self._through(circuit, invocation, call_next)

    def circuit_of(self, workflow: Workflow) -> Circuit | None:
        """Return a workflow's circuit, created at first use; None if it has none."""
        if workflow not in self._circuits:
            circuit = self._circuits[workflow] = self._make(workflow)
            if circuit is not None:
                self._by_name[workflow.name] = ref(workflow), circuit
        return self._circuits[workflow]

    def __len__(self) -> int:
        """Return the number of workflows whose circuits are known."""
        return len(self._circuits)

    def states(self) -> list[tuple[str, str]]:
        """Return the name of each workflow that has a circuit, and the state's name."""
        now = self._clock()
        for name, (workflow, _) in list(self._by_name.items()):
            if workflow() is None:  # unregistered
                self._by_name.pop(name, None)
        return [(name, name_of(circuit.state, now)) for name, (_, circuit) in list(self._by_name.items())]

    def _make(self, workflow: Workflow) -> Circuit | None:
        try:
            rules = rules_of(workflow, self._rules)
        except ConfigurationError as exc:  # registered after start-up, which would have refused it
            log.error("%s The rules of the options apply.", exc)
            rules = self._rules
        if rules is None:
            return None
        if self._shared_factory is not None:
            return self._shared_factory(workflow.name, rules)
        return Circuit(workflow.name, rules, self._clock, self._announce)

    async def _through(self, circuit: Circuit, invocation: Invocation, call_next: Call) -> Result:
        token = circuit.enter() if circuit.state.until is not None else ""
        epoch = circuit.epoch
        try:
            result = await call_next(invocation)
        except NexusError as exc:
            circuit.leave(token, epoch, self._outcome(exc, invocation))
            raise
        except BaseException:
            circuit.leave(token, epoch, CallOutcome.NEITHER)
            raise
        if token or circuit.state.failures:
            circuit.leave(token, epoch, CallOutcome.SUCCESS)
        return result

    async def _through_shared(self, circuit: SharedCircuit, invocation: Invocation, call_next: Call) -> Result:
        token = "" if circuit.passes() else await circuit.claim()
        epoch = circuit.epoch
        try:
            result = await call_next(invocation)
        except NexusError as exc:
            await circuit.settle(token, epoch, self._outcome(exc, invocation))
            raise
        except (Exception, asyncio.CancelledError):
            circuit.release(token)
            raise
        if token or circuit.state.failures:
            await circuit.settle(token, epoch, CallOutcome.SUCCESS)
        return result

    def _outcome(self, error: NexusError, invocation: Invocation) -> CallOutcome:
        """Return the outcome for the circuit. Errors caused by the caller are neither success nor failure."""
        if isinstance(error, WorkflowFailed):
            return CallOutcome.FAILURE if error.status >= 500 else CallOutcome.NEITHER
        if isinstance(error, WorkflowTimeout) and not self._chose_the_limit(invocation):
            return CallOutcome.FAILURE
        return CallOutcome.NEITHER

    def _chose_the_limit(self, invocation: Invocation) -> bool:
        """Whether the caller has set a shorter time limit than the workflow's."""
        assert invocation.workflow is not None
        own = invocation.workflow.timeout
        limit = self._timeout if own is None else own
        return invocation.timeout is not None and (limit is None or invocation.timeout < limit)


def rules_of(workflow: Workflow, rules: CircuitRules) -> CircuitRules | None:
    """Return a workflow's rules, or None if it has no circuit (``metadata["circuit_breaker"]``).

    Args:
        workflow: The workflow.
        rules: The default rules.

    Raises:
        ConfigurationError: The metadata is invalid.
    """
    given: Any = workflow.metadata.get(METADATA, True)
    if given is True or given is False:
        return rules if given else None
    if not isinstance(given, dict) or given.keys() - {"failure_threshold", "reset_timeout"}:
        raise _invalid(workflow, "must be true, false, or an object with failure_threshold and reset_timeout")
    threshold = given.get("failure_threshold", rules.threshold)
    seconds = given.get("reset_timeout", rules.reset_timeout)
    if type(threshold) is not int or threshold < 1:
        raise _invalid(workflow, "failure_threshold must be an integer of at least 1")
    if type(seconds) not in (int, float) or not 0 < seconds < float("inf"):
        raise _invalid(workflow, "reset_timeout must be a number of seconds above 0")
    return CircuitRules(threshold, float(seconds))


def _invalid(workflow: Workflow, what: str) -> ConfigurationError:
    return ConfigurationError(f'The metadata {METADATA} of the workflow "{workflow.name}": {what}.')
