"""`Circuit`: the circuit of one workflow in one process."""

from __future__ import annotations

from collections.abc import Callable

from nexus_breaker.states import CLOSED, CallOutcome, CircuitRules, CircuitState, claimed, ended, wait_for_probe
from nexus_core import CircuitOpen

Clock = Callable[[], float]
Announce = Callable[[str, CircuitState, CircuitRules], None]
"""Called with the workflow's name, the new state and the rules when a circuit opens or closes."""


class Circuit:
    """Refuses calls of a workflow while it is open.

    Args:
        name: The workflow's name.
        rules: When it opens and closes.
        clock: Returns the time in seconds; it never goes back.
        announce: Called when it opens or closes.

    Attributes:
        state: The state.
        epoch: Number of times it has closed. Outcomes of calls from earlier epochs are ignored.
    """

    def __init__(self, name: str, rules: CircuitRules, clock: Clock, announce: Announce) -> None:
        self.name = name
        self.rules = rules
        self.state: CircuitState = CLOSED
        self.epoch = 0
        self._clock = clock
        self._announce = announce
        self._probes = 0

    def enter(self) -> str:
        """Admit a call. Returns its token if it is the probe, else an empty one.

        Raises:
            CircuitOpen: The call is refused.
        """
        if self.state.until is None:
            return ""
        self._refuse_while_open()
        self._probes += 1
        self._change(claimed(self.state, str(self._probes)))
        return self.state.probe

    def leave(self, token: str, epoch: int, outcome: CallOutcome) -> None:
        """Record the outcome of a call that was admitted in an epoch."""
        if epoch == self.epoch:
            self._change(ended(self.state, token, outcome, self._clock(), self.rules))

    def _refuse_while_open(self) -> None:
        seconds = wait_for_probe(self.state, self._clock())
        if seconds > 0:
            raise self._refusal(seconds)

    def _refusal(self, seconds: float) -> CircuitOpen:
        message = f'The workflow "{self.name}" has failed too often recently.'
        return CircuitOpen(message, retry_after=max(0.001, round(seconds, 3)))

    def _change(self, state: CircuitState) -> None:
        before, self.state = self.state, state
        if before.until is not None and state.until is None:
            self.epoch += 1
        is_open, was_open = state.until is not None, before.until is not None
        if is_open != was_open or (is_open and state.failures != before.failures):
            self._announce(self.name, state, self.rules)
