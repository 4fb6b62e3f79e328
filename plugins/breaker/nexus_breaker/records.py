"""`Records`: the states of circuits as the store has them, JSON with times of the wall clock."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from nexus_breaker.states import CLOSED, CircuitRules, CircuitState

if TYPE_CHECKING:
    from nexus_breaker.circuit import Clock

log = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
"""Seconds after which a probe that is not renewed counts as lost, because its process may have died."""

KEPT_SECONDS = 3600.0
"""Lifetime of the record of an unused circuit."""

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _CircuitRecord(msgspec.Struct, omit_defaults=True):
    failures: _Count = 0
    until: float | None = None
    probe: str = ""
    lease: float | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_CircuitRecord).decode


class Records:
    """Encodes and decodes states. States have the times of a monotonic clock, records those of the wall clock.

    Args:
        clock: The clock of states.
        wall: Returns the seconds since the epoch. Clocks of other machines may differ, so times in records are limited
            to what the rules allow.
    """

    def __init__(self, clock: Clock, wall: Clock = time.time) -> None:
        self._clock = clock
        self._wall = wall

    def encode(self, state: CircuitState) -> tuple[bytes | None, float]:
        """Return the record of a state and its lifetime in seconds; None instead of the record of a closed circuit."""
        if state == CLOSED:
            return None, 0.0
        now, wall = self._clock(), self._wall()
        until, lease = (None if at is None else at - now + wall for at in (state.until, state.lease))
        kept = KEPT_SECONDS + (0.0 if state.until is None else max(0.0, state.until - now))
        return _encode(_CircuitRecord(state.failures, until, state.probe, lease)), kept

    def decode(self, name: str, record: bytes | None, rules: CircuitRules) -> CircuitState:
        """Return the state in a record. An invalid record counts as a closed circuit."""
        if record is None:
            return CLOSED
        try:
            found = _decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.error('The record of the circuit of "%s" in the store was not written by this program', name)
            return CLOSED
        now, wall = self._clock(), self._wall()
        until = None if found.until is None else now + min(found.until - wall, rules.reset_timeout)
        lease = None if found.lease is None else now + min(found.lease - wall, LEASE_SECONDS)
        if until is None:
            return CircuitState(found.failures)
        return CircuitState(found.failures, until, found.probe, now if lease is None else lease)
