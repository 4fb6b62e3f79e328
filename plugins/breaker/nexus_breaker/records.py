"""What the store holds of a circuit: its state as JSON, with times that every process understands."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from nexus_breaker.states import CLOSED, Rules, State

if TYPE_CHECKING:
    from nexus_breaker.circuit import Clock

log = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
"""For how long after its last sign of life a probe counts as under way. Its process may have died."""

KEPT_SECONDS = 3600.0
"""For how long a circuit is remembered that nobody calls."""

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Record(msgspec.Struct, omit_defaults=True):
    failures: _Count = 0
    until: float | None = None
    probe: str = ""
    lease: float | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Record).decode


class Records:
    """Turns states into records and back. States have the times of this process's own clock, records those of day.

    Args:
        clock: The clock of states.
        wall: Returns the seconds since the epoch. Those of other machines differ: nothing is believed to be further
            away than it can be.
    """

    def __init__(self, clock: Clock, wall: Clock = time.time) -> None:
        self._clock = clock
        self._wall = wall

    def encode(self, state: State) -> tuple[bytes | None, float]:
        """Return the record of a state and for how many seconds to keep it; None for that of a closed circuit."""
        if state == CLOSED:
            return None, 0.0
        now, wall = self._clock(), self._wall()
        until, lease = (None if at is None else at - now + wall for at in (state.until, state.lease))
        kept = KEPT_SECONDS + (0.0 if state.until is None else max(0.0, state.until - now))
        return _encode(_Record(state.failures, until, state.probe, lease)), kept

    def decode(self, name: str, record: bytes | None, rules: Rules) -> State:
        """Return the state that a record holds. One that can't be read is that of a closed circuit."""
        if record is None:
            return CLOSED
        try:
            found = _decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.error('What the store has for the circuit of "%s" was not written by this program', name)
            return CLOSED
        now, wall = self._clock(), self._wall()
        until = None if found.until is None else now + min(found.until - wall, rules.reset_timeout)
        lease = None if found.lease is None else now + min(found.lease - wall, LEASE_SECONDS)
        if until is None:
            return State(found.failures)
        return State(found.failures, until, found.probe, now if lease is None else lease)
