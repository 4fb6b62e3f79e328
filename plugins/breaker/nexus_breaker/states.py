"""The states of a circuit and what changes them: plain values and functions, without clocks and stores."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PROBE_WAIT = 1.0
"""After how many seconds who is refused because another call is the probe may ask again, at most."""


class Outcome(Enum):
    """What a call says about its workflow."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a circuit opens and closes.

    Attributes:
        threshold: Failures in a row that open it.
        reset_timeout: Seconds that it stays open.
    """

    threshold: int
    reset_timeout: float


@dataclass(frozen=True, slots=True)
class State:
    """A circuit: closed while it has no ``until``, open up to then, half open from then on.

    Attributes:
        failures: Failures in a row.
        until: When a probe may be sent.
        probe: The token of the call that is the probe, or empty.
        lease: When the probe counts as lost, where it may be another process's.
    """

    failures: int = 0
    until: float | None = None
    probe: str = ""
    lease: float | None = None


CLOSED = State()
NAMES = ("closed", "open", "half_open")


def name_of(state: State, now: float) -> str:
    """Return which of `NAMES` a state is at a time."""
    if state.until is None:
        return "closed"
    return "open" if state.until > now else "half_open"


def wait_for_probe(state: State, now: float) -> float:
    """Return for how many seconds a circuit that is not closed lets nobody through; 0 if the next call is the probe."""
    assert state.until is not None
    if state.until > now:
        return state.until - now
    if state.probe and (state.lease is None or state.lease > now):
        return PROBE_WAIT if state.lease is None else min(PROBE_WAIT, state.lease - now)
    return 0.0


def claimed(state: State, token: str, lease: float | None = None) -> State:
    """Return the state when a call has become the probe."""
    return State(state.failures, state.until, token, lease)


def ended(state: State, token: str, outcome: Outcome, now: float, rules: Rules) -> State:
    """Return the state when a call has ended.

    Args:
        state: The state before.
        token: The call's, if it was the probe.
        outcome: How it ended.
        now: The time.
        rules: The circuit's rules.
    """
    if token != state.probe or (not token and state.until is not None):
        return state
    if outcome is Outcome.SUCCESS:
        return CLOSED
    if outcome is Outcome.NEITHER:
        return State(state.failures, state.until)
    failures = state.failures + 1
    return State(failures, now + rules.reset_timeout if token or failures >= rules.threshold else None)
