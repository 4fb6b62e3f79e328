"""`ScheduleStates`: the states of schedules in a `Store`, changed by compare-and-set."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, TypeVar

import msgspec

from nexus_core.errors import BackendUnavailable
from nexus_schedules.plan import ScheduleState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

KEPT_SECONDS = 10 * 365 * 86_400.0
"""A schedule may be due once in four years, and is paused until it is resumed."""

TRIES = 20

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ScheduleState).decode

Outcome = TypeVar("Outcome")


class ScheduleStates:
    """The states of schedules.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, name: str, now: float) -> ScheduleState:
        """Return the state of a schedule. One that has none counts from now on.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        return (await self._read(name, now))[1]

    async def change(
        self, name: str, now: float, decide: Callable[[ScheduleState], Awaitable[tuple[ScheduleState, Outcome]]]
    ) -> Outcome:
        """Change the state of a schedule.

        Args:
            name: The schedule.
            now: Seconds since the epoch, for a schedule without a state.
            decide: Returns the new state, and what `change` returns; called again where another process was faster.

        Raises:
            BackendUnavailable: The store does not answer, or other processes were always faster.
        """
        for _ in range(TRIES):
            text, record = await self._read(name, now)
            new, outcome = await decide(record)
            if new == record or await self._store.replace(_key(name), text, _encode(new), KEPT_SECONDS):
                return outcome
        raise BackendUnavailable("The state of a schedule could not be changed: other processes change it too.")

    async def _read(self, name: str, now: float) -> tuple[bytes, ScheduleState]:
        new = _encode(ScheduleState(now))
        text = await self._store.add(_key(name), new, KEPT_SECONDS) or new
        try:
            return text, _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.error('The state of the schedule "%s" can not be read: it counts from now on', name)
            return text, ScheduleState(now)


def _key(name: str) -> str:
    return f"schedule:{hashlib.sha256(name.encode()).hexdigest()}"
