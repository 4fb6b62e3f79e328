"""The states of a circuit and their transitions: values and pure functions, without clocks and stores."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PROBE_WAIT = 1.0
"""Maximum retry time in seconds for calls that are refused because another call is the probe."""


class CallOutcome(Enum):
    """The outcome of a call for its workflow's circuit."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """When a circuit opens and closes.

    Attributes:
        threshold: Consecutive failures that open it.
        reset_timeout: Seconds for which it stays open.
    """

    threshold: int
    reset_timeout: float


@dataclass(frozen=True, slots=True)
class CircuitState:
    """A circuit's state: closed if ``until`` is None, open until then, half open afterwards.

    Attributes:
        failures: Consecutive failures.
        until: Time from which a probe is allowed.
        probe: Token of the call that is the probe, or empty.
        lease: Time from which the probe counts as lost, for circuits that processes share.
    """

    failures: int = 0
    until: float | None = None
    probe: str = ""
    lease: float | None = None


CLOSED = CircuitState()
NAMES = ("closed", "open", "half_open")


def name_of(state: CircuitState, now: float) -> str:
    """Return the name of a state at a time, one of `NAMES`."""
    if state.until is None:
        return "closed"
    return "open" if state.until > now else "half_open"


def wait_for_probe(state: CircuitState, now: float) -> float:
    """Return the seconds until a circuit that is not closed allows a probe; 0 if the next call may be it."""
    assert state.until is not None
    if state.until > now:
        return state.until - now
    if state.probe and (state.lease is None or state.lease > now):
        return PROBE_WAIT if state.lease is None else min(PROBE_WAIT, state.lease - now)
    return 0.0


def claimed(state: CircuitState, token: str, lease: float | None = None) -> CircuitState:
    """Return the state after a call has become the probe."""
    return CircuitState(state.failures, state.until, token, lease)


def ended(state: CircuitState, token: str, outcome: CallOutcome, now: float, rules: CircuitRules) -> CircuitState:
    """Return the state after a call has ended.

    Args:
        state: The state before.
        token: The call's token if it was the probe, else empty.
        outcome: Its outcome.
        now: The time.
        rules: The circuit's rules.
    """
    if token != state.probe or (not token and state.until is not None):
        return state
    if outcome is CallOutcome.SUCCESS:
        return CLOSED
    if outcome is CallOutcome.NEITHER:
        return CircuitState(state.failures, state.until)
    failures = state.failures + 1
    return CircuitState(failures, now + rules.reset_timeout if token or failures >= rules.threshold else None)
