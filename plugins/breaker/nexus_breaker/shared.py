"""`SharedCircuit`: the circuit of one workflow in many processes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from nexus_breaker.circuit import Announce, Circuit, Clock
from nexus_breaker.records import LEASE_SECONDS, Records
from nexus_breaker.states import Outcome, Rules, State, claimed, ended, wait_for_probe
from nexus_core import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_breaker.tasks import Tasks
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

FRESH_SECONDS = 0.5
"""For how long this process goes by its own copy of a circuit before it looks again what the store has."""

RENEW_SECONDS = LEASE_SECONDS / 3
TRIES = 10
"""How often a change is tried that others' changes get in the way of."""


class Outage:
    """Says once that the store is away, and once that it is back.

    Args:
        store: The store's name.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._is_out = False

    def note(self, is_out: bool) -> None:
        """Note whether the store has answered."""
        if is_out and not self._is_out:
            log.warning("The store %s is away: each process goes by its own circuits", self._store)
        elif self._is_out and not is_out:
            log.info("The store %s is back: circuits are shared again", self._store)
        self._is_out = is_out


class SharedCircuit(Circuit):
    """A circuit whose state is in a store, and a copy of it here.

    A call goes by the copy. What changes the state is done in the store by compare-and-set, so that it is done once.

    Args:
        name, rules, clock, announce: See `Circuit`.
        store: Where the state is.
        records: How it is written there.
        outage: Told whether the store answers.
        tasks: What goes on beside calls.
    """

    def __init__(
        self, name: str, rules: Rules, clock: Clock, announce: Announce, *,
        store: Store, records: Records, outage: Outage, tasks: Tasks,
    ) -> None:  # fmt: skip
        super().__init__(name, rules, clock, announce)
        self._key = f"breaker:{name}"
        self._store = store
        self._records = records
        self._outage = outage
        self._tasks = tasks
        self._changing = asyncio.Lock()
        self._stored: bytes | None = None
        self._is_ahead = False
        self._look_again = clock()
        self._looking: asyncio.Task[None] | None = None
        self._renewing: dict[str, asyncio.Task[None]] = {}

    def passes(self) -> bool:
        """Whether the copy is closed. One that is old is renewed meanwhile."""
        if self._clock() >= self._look_again and (self._looking is None or self._looking.done()):
            self._looking = self._tasks.start(self.look())
        return self.state.until is None

    async def claim(self) -> str:
        """Let a call through where the copy is not closed; see `Circuit.enter`.

        Raises:
            CircuitOpen: It is not let through.
        """
        self._refuse_while_open()
        token = secrets.token_hex(8)

        def step(state: State, now: float) -> State:
            may_probe = state.until is not None and wait_for_probe(state, now) <= 0
            return claimed(state, token, now + LEASE_SECONDS) if may_probe else state

        move = self._tasks.start(self._move(step))
        try:
            await asyncio.shield(move)
        except asyncio.CancelledError:
            self.release(token)
            raise
        if self.state.until is None:
            return ""
        if self.state.probe != token:
            raise self._refusal(wait_for_probe(self.state, self._clock()) or FRESH_SECONDS)
        self._renewing[token] = self._tasks.start(self._renew(token))
        return token

    async def settle(self, token: str, epoch: int, outcome: Outcome) -> None:
        """Take note of how a call ended; see `Circuit.leave`. A probe's end is noted even if the call is cancelled."""
        self._renew_no_more(token)
        if epoch != self.epoch:
            return
        move = self._move(lambda state, now: ended(state, token, outcome, now, self.rules))
        await (asyncio.shield(self._tasks.start(move)) if token else move)

    def release(self, token: str) -> None:
        """Let another call be the probe: the one that was has been cancelled."""
        self._renew_no_more(token)
        if token:
            self._tasks.start(self._move(lambda state, now: ended(state, token, Outcome.NEITHER, now, self.rules)))

    async def _renew(self, token: str) -> None:
        """Keep others from taking the probe for lost."""
        while self.state.probe == token:
            await asyncio.sleep(RENEW_SECONDS)
            await self._move(
                lambda state, now: replace(state, lease=now + LEASE_SECONDS) if state.probe == token else state
            )

    def _renew_no_more(self, token: str) -> None:
        if renewing := self._renewing.pop(token, None):
            renewing.cancel()

    async def look(self) -> None:
        """Renew the copy."""
        async with self._changing:
            try:
                self._adopt(await self._store.get(self._key))
            except BackendUnavailable:
                self._went_without_store()

    async def _move(self, step: Callable[[State, float], State]) -> None:
        """Change the state by a function of it and the time, until that has worked on what is in the store.

        Where the store is away, the copy alone changes.
        """
        async with self._changing:
            for _ in range(TRIES):
                state = step(self.state, self._clock())
                if state == self.state:
                    return
                try:
                    if await self._write(state):
                        return
                except BackendUnavailable:
                    self._went_without_store()
                    self._is_ahead = True
                    self._change(step(self.state, self._clock()))  # the attempt may have taken a while
                    return

    async def _write(self, state: State) -> bool:
        """Put a state in the place of what the copy is of. If that is not there, renew the copy, and return False."""
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
        """Make what is in the store the copy, unless this process alone has seen the workflow fail meanwhile."""
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
        self._look_again = self._clock() + FRESH_SECONDS
        self._outage.note(False)

    def _went_without_store(self) -> None:
        self._look_again = self._clock() + FRESH_SECONDS
        self._outage.note(True)
