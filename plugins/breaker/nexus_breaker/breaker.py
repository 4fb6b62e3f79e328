"""The stage of the pipeline: each call goes through its workflow's circuit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from nexus_breaker.circuit import Circuit
from nexus_breaker.shared import SharedCircuit
from nexus_breaker.states import Outcome, Rules, name_of
from nexus_core import ConfigurationError, NexusError, Stage, WorkflowFailed, WorkflowTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_breaker.circuit import Announce, Clock
    from nexus_core import Invocation, Result, Workflow
    from nexus_core.pipeline.stage import Call

log = logging.getLogger(__name__)

METADATA = "circuit_breaker"
MakeShared = Callable[[str, Rules], SharedCircuit]


class Breaker:
    """Keeps a circuit for each workflow.

    Args:
        rules: The rules of every circuit whose workflow has none of its own.
        timeout: Seconds that a run may take unless its workflow says otherwise; None for no limit.
        announce: Told when a circuit opens or closes.
        make_shared: Makes circuits that processes share; None for this process's own.
        clock: Returns the time in seconds, which never goes back.
    """

    stage = Stage.BREAKER

    def __init__(
        self,
        rules: Rules,
        timeout: float | None,
        announce: Announce,
        make_shared: MakeShared | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._rules = rules
        self._timeout = timeout
        self._announce = announce
        self._make_shared = make_shared
        self._clock = clock
        self._circuits: WeakKeyDictionary[Workflow, Circuit | None] = WeakKeyDictionary()
        self._by_name: dict[str, tuple[ReferenceType[Workflow], Circuit]] = {}

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Refuse the call, or let it through and take note of how it ends."""
        workflow = invocation.workflow
        assert workflow is not None  # the resolve stage has seen to it
        try:
            circuit = self._circuits[workflow]
        except KeyError:
            circuit = self._circuits[workflow] = self._make(workflow)
            if circuit is not None:
                self._by_name[workflow.name] = ref(workflow), circuit
        if circuit is None:
            return call_next(invocation)
        if isinstance(circuit, SharedCircuit):
            return self._through_shared(circuit, invocation, call_next)
        return self._through(circuit, invocation, call_next)

    def states(self) -> list[tuple[str, str]]:
        """Return the name of each workflow that has a circuit, and whether that is closed, open or half open."""
        now = self._clock()
        for name, (workflow, _) in list(self._by_name.items()):
            if workflow() is None:  # it was unregistered
                self._by_name.pop(name, None)
        return [(name, name_of(circuit.state, now)) for name, (_, circuit) in list(self._by_name.items())]

    def _make(self, workflow: Workflow) -> Circuit | None:
        try:
            rules = rules_of(workflow, self._rules)
        except ConfigurationError as exc:  # it was registered after the start
            log.error("%s It has the rules that the options set.", exc)
            rules = self._rules
        if rules is None:
            return None
        if self._make_shared is not None:
            return self._make_shared(workflow.name, rules)
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
            circuit.leave(token, epoch, Outcome.NEITHER)
            raise
        if token or circuit.state.failures:
            circuit.leave(token, epoch, Outcome.SUCCESS)
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
            await circuit.settle(token, epoch, Outcome.SUCCESS)
        return result

    def _outcome(self, error: NexusError, invocation: Invocation) -> Outcome:
        """Return what an error says about the workflow: nothing, where the caller is to blame."""
        if isinstance(error, WorkflowFailed):
            return Outcome.FAILURE if error.status >= 500 else Outcome.NEITHER
        if isinstance(error, WorkflowTimeout) and not self._chose_the_limit(invocation):
            return Outcome.FAILURE
        return Outcome.NEITHER

    def _chose_the_limit(self, invocation: Invocation) -> bool:
        """Whether the caller gave its run less time than the workflow has."""
        assert invocation.workflow is not None
        own = invocation.workflow.timeout
        limit = self._timeout if own is None else own
        return invocation.timeout is not None and (limit is None or invocation.timeout < limit)


def rules_of(workflow: Workflow, rules: Rules) -> Rules | None:
    """Return a workflow's rules, or None if it has no circuit (``metadata["circuit_breaker"]``).

    Args:
        workflow: The workflow.
        rules: What holds where its metadata says nothing.

    Raises:
        ConfigurationError: The metadata is wrong.
    """
    given: Any = workflow.metadata.get(METADATA, True)
    if given is True or given is False:
        return rules if given else None
    if not isinstance(given, dict) or given.keys() - {"failure_threshold", "reset_timeout"}:
        raise _wrong(workflow, "is true, false, or an object with failure_threshold and reset_timeout")
    threshold = given.get("failure_threshold", rules.threshold)
    seconds = given.get("reset_timeout", rules.reset_timeout)
    if type(threshold) is not int or threshold < 1:
        raise _wrong(workflow, "failure_threshold is a whole number from 1")
    if type(seconds) not in (int, float) or not 0 < seconds < float("inf"):
        raise _wrong(workflow, "reset_timeout is a number of seconds above 0")
    return Rules(threshold, float(seconds))


def _wrong(workflow: Workflow, what: str) -> ConfigurationError:
    return ConfigurationError(f'The metadata {METADATA} of the workflow "{workflow.name}": {what}.')
