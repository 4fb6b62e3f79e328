"""`SharedCircuit`: the circuit of one workflow in many processes."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from nexus_breaker.circuit import Announce, Circuit, Clock
from nexus_breaker.records import LEASE_SECONDS, Records
from nexus_breaker.states import CallOutcome, CircuitRules, CircuitState, claimed, ended, wait_for_probe
from nexus_core import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_toolkit.outage_log import OutageLog

    from nexus_breaker.tasks import BackgroundTasks
    from nexus_core.state.stores import Store

FRESH_SECONDS = 0.5
"""Age in seconds at which this process's copy of a circuit is refreshed from the store."""

RENEW_SECONDS = LEASE_SECONDS / 3
TRIES = 10
"""Maximum number of attempts at a change that conflicts with those of other processes."""


class SharedCircuit(Circuit):
    """A circuit with its state in a store, and a local copy of it.

    Calls use the copy. Changes are made in the store by compare-and-set, so that each is made once.

    Args:
        name, rules, clock, announce: See `Circuit`.
        store: The store.
        records: Encodes and decodes states.
        outage: The log of the store's outages.
        tasks: The background tasks.

    Attributes:
        tasks: The background tasks.
    """

    def __init__(
        self, name: str, rules: CircuitRules, clock: Clock, announce: Announce, *,
        store: Store, records: Records, outage: OutageLog, tasks: BackgroundTasks,
    ) -> None:  # fmt: skip
        super().__init__(name, rules, clock, announce)
        self._key = f"breaker:{name}"
        self._store = store
        self._records = records
        self._outage = outage
        self.tasks = tasks
        self._changing = asyncio.Lock()
        self._stored: bytes | None = None
        self._is_ahead = False
        self._refresh_at = clock()
        self._refreshing: asyncio.Task[None] | None = None
        self._renewing: dict[str, asyncio.Task[None]] = {}

    def passes(self) -> bool:
        """Whether the copy is closed. An old copy is refreshed in the background."""
        if self._clock() >= self._refresh_at and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = self.tasks.start(self.refresh())
        return self.state.until is None

    async def claim(self) -> str:
        """Admit a call if the copy is not closed; see `Circuit.enter`.

        Raises:
            CircuitOpen: The call is refused.
        """
        self._refuse_while_open()
        token = secrets.token_hex(8)

        def step(state: CircuitState, now: float) -> CircuitState:
            may_probe = state.until is not None and wait_for_probe(state, now) <= 0
            return claimed(state, token, now + LEASE_SECONDS) if may_probe else state

        transition = self.tasks.start(self._transition(step))
        try:
            await asyncio.shield(transition)
        except asyncio.CancelledError:
            self.release(token)
            raise
        if self.state.until is None:
            return ""
        if self.state.probe != token:
            raise self._refusal(wait_for_probe(self.state, self._clock()) or FRESH_SECONDS)
        self._renewing[token] = self.tasks.start(self._renew(token))
        return token

    async def settle(self, token: str, epoch: int, outcome: CallOutcome) -> None:
        """Record a call's outcome; see `Circuit.leave`. A probe's is recorded even if the call is cancelled."""
        self._renew_no_more(token)
        if epoch != self.epoch:
            return
        transition = self._transition(lambda state, now: ended(state, token, outcome, now, self.rules))
        await (asyncio.shield(self.tasks.start(transition)) if token else transition)

    def release(self, token: str) -> None:
        """Let another call be the probe, because this one was cancelled."""
        self._renew_no_more(token)
        if token:
            self.tasks.start(
                self._transition(lambda state, now: ended(state, token, CallOutcome.NEITHER, now, self.rules))
            )

    async def _renew(self, token: str) -> None:
        """Renew the probe's lease while it runs."""
        while self.state.probe == token:
            await asyncio.sleep(RENEW_SECONDS)
            await self._transition(
                lambda state, now: replace(state, lease=now + LEASE_SECONDS) if state.probe == token else state
            )

    def _renew_no_more(self, token: str) -> None:
        if renewing := self._renewing.pop(token, None):
            renewing.cancel()

    async def refresh(self) -> None:
        """Refresh the copy from the store."""
        async with self._changing:
            try:
                self._adopt(await self._store.get(self._key))
            except BackendUnavailable as exc:
                self._went_without_store(exc)

    async def _transition(self, step: Callable[[CircuitState, float], CircuitState]) -> None:
        """Change the state by a function of it and the time; repeat it if another process has changed the stored state.

        While the store is unavailable, only the copy changes.
        """
        async with self._changing:
            for _ in range(TRIES):
                state = step(self.state, self._clock())
                if state == self.state:
                    return
                try:
                    if await self._write(state):
                        return
                except BackendUnavailable as exc:
                    self._went_without_store(exc)
                    self._is_ahead = True
                    self._change(step(self.state, self._clock()))  # with the time now: the attempt may have taken long
                    return

    async def _write(self, state: CircuitState) -> bool:
        """Replace the stored state that the copy is of. If it has changed, refresh the copy and return False."""
        record, seconds = self._records.encode(state)
        there: bytes | None = None
        if self._stored is None:
            there = None if record is None else await self._store.add(self._key, record, seconds)
            done = there is None
        else:
            if record is None:
                done = await self._store.delete(self._key, self._stored)
            else:
                done = await self._store.replace(self._key, self._stored, record, seconds)
            if not done:
                there = await self._store.get(self._key)
        if done:
            self._stored, self._is_ahead = record, False
            self._is_fresh()
            self._change(state)
        else:
            self._adopt(there)
        return done

    def _adopt(self, there: bytes | None) -> None:
        """Update the copy, unless this process has opened the circuit during an outage of the store."""
        self._is_fresh()
        if there == self._stored and not self._is_ahead:
            return
        self._stored = there
        state = self._records.decode(self.name, there, self.rules)
        if self._is_ahead and self.state.until is not None and state.until is None:
            return
        self._is_ahead = False
        self._change(state)

    def _is_fresh(self) -> None:
        self._refresh_at = self._clock() + FRESH_SECONDS
        self._outage.succeeded()

    def _went_without_store(self, exc: BackendUnavailable) -> None:
        self._refresh_at = self._clock() + FRESH_SECONDS
        self._outage.failed(exc)
