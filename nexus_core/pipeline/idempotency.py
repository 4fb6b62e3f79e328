"""`Idempotency`: a call that is repeated with its key is answered as the first time, and does not run again."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core import jsontext
from nexus_core.errors import (
    BackendUnavailable,
    Conflict,
    MalformedRequest,
    NexusError,
    StateLimitReached,
    ValidationError,
    error_from_problem,
)
from nexus_core.pipeline.stage import Call, Stage
from nexus_core.state.heartbeat import Heartbeat
from nexus_core.state.limits import IDEMPOTENCY_KEYS
from nexus_core.state.memory_store import MEMORY
from nexus_core.state.stores import scoping
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.runs.record import RunState
    from nexus_core.runs.store import RunStore
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

UNFINISHED_SECONDS = 60.0
"""How long after a call's time limit a repeat is refused while the first may still run: its process may have died."""

NO_LIMIT_SECONDS = 86_400.0
"""The same for a call without a time limit."""


class _Replay(msgspec.Struct, omit_defaults=True):
    """What is kept under a key: first that a call runs and in which process, then how it ended.

    ``is_lost`` says that it has ended, and that its answer was more than its caller may store.
    """

    params: str
    run_id: str
    duration: float = 0.0
    result: msgspec.Raw = msgspec.Raw()
    problem: dict[str, Any] | None = None
    process: str = ""
    is_lost: bool = False

    @property
    def is_claim(self) -> bool:
        """Whether it says that the call runs."""
        return self.problem is None and not self.is_lost and not bytes(self.result)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Replay).decode


class Idempotency:
    """Answers repeated calls from what it kept of the first. A call without a key pays nothing.

    The key counts for one caller and one workflow. What a call ended with is kept once its workflow has begun, errors
    too; what the policies refused before is not, and may be tried again with the same key. Where processes share the
    store, the key of a call whose process has died is free for a repeat, which runs, as soon as that is known. Where a
    run store has the first call's run, a repeat does not run: it is answered as that run has ended, with
    `RunInterrupted` if its process has died.

    Args:
        store: Where entries are kept.
        ttl: For how many seconds.
        timeout: Seconds that a run may take, if its workflow sets no other limit; None for no limit.
        runs: The run store; None where runs are kept in their process alone.

    Attributes:
        store: Where entries are kept.
        heartbeat: The heartbeat of this process in the store, for other stages too. `Serial.close` ends it.
    """

    stage = Stage.IDEMPOTENCY

    def __init__(self, store: Store, ttl: float, timeout: float | None, runs: RunStore | None = None) -> None:
        self.store = store
        self._scoped = scoping(store)
        self.heartbeat = Heartbeat(store)
        self._is_shared = store.name != MEMORY
        self._ttl = ttl
        self._timeout = timeout
        self._runs = runs

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Return the answer to the first call of this key, or to this one."""
        return call_next(invocation) if invocation.idempotency_key is None else self._once(invocation, call_next)

    async def _once(self, invocation: Invocation, call_next: Call) -> Result:
        if not (invocation.idempotency_key or "").strip():  # an unset variable, perhaps: all such calls would be one
            raise MalformedRequest("The idempotency key is empty. Send a unique key for each call, or none.")
        key = _store_key(invocation)
        params = hashlib.sha256(jsontext.canonical(invocation.validated_params)).hexdigest()
        store = self._scoped(IDEMPOTENCY_KEYS, invocation.payer)
        claim = _encode(_Replay(params, invocation.run.id, process=self.heartbeat.process))
        if self._is_shared and not self.heartbeat.has_begun:
            await self.heartbeat.begin()
        there = await store.add(key, claim, self._claim_seconds(invocation))
        if there is not None:
            entry = _decoded(there)
            run = await self._first_run(entry, params)
            if run is not None:
                return _replay(await self._settled(store, key, there, entry, run), params)
            if not await self._has_died(entry, params):
                return _replay(entry, params)
            if not await store.replace(key, there, claim, self._claim_seconds(invocation)):
                return _replay(entry, params)  # another repeat was faster
            log.warning("The process of run %s has ended; run %s replaces it", entry.run_id, invocation.run.id)
        try:
            result = await call_next(invocation)
        except NexusError as exc:
            if exc.run_id is None:  # refused before the workflow began
                await _forget(store, key, claim)
            else:
                await self._keep(store, key, claim, _Replay(params, exc.run_id, problem=exc.problem()))
            raise
        except BaseException:
            await _forget(store, key, claim)
            raise
        await self._keep(store, key, claim, _Replay(params, result.run_id, result.duration, msgspec.Raw(result.json)))
        return result

    async def _first_run(self, entry: _Replay, params: str) -> RunState | None:
        """Return the run that an entry like this call's claims to be at work, as the run store has it."""
        if self._runs is None or not entry.is_claim or entry.params != params:
            return None
        return await self._runs.get(entry.run_id)

    async def _settled(self, store: Store, key: str, there: bytes, entry: _Replay, run: RunState) -> _Replay:
        """Return the entry of a run that may have ended without its process, and keep it if it has."""
        if not run.has_ended:
            return entry
        settled = _outcome(entry, run)
        await self._keep(store, key, there, settled)
        return settled

    async def _has_died(self, entry: _Replay, params: str) -> bool:
        """Whether an entry is the claim of a call like this one whose process lives no more."""
        if not self._is_shared or not entry.is_claim or entry.params != params:
            return False
        return await self.heartbeat.is_dead(entry.process)

    def _claim_seconds(self, invocation: Invocation) -> float:
        workflow = invocation.workflow
        limit = workflow.timeout if workflow is not None and workflow.timeout is not None else self._timeout
        return NO_LIMIT_SECONDS if limit is None else limit + UNFINISHED_SECONDS

    async def _keep(self, store: Store, key: str, claim: bytes, entry: _Replay) -> None:
        """Put the outcome in the claim's place. The work is done: its caller is answered all the same.

        Where the answer is more than the caller may store, the key remembers that the call has ended, without it: that
        is no larger than the claim.
        """
        try:
            try:
                await store.replace(key, claim, _encode(entry), self._ttl)
            except StateLimitReached:
                ended = _Replay(entry.params, entry.run_id, is_lost=True)
                await store.replace(key, claim, _encode(ended), self._ttl)
        except BackendUnavailable:
            log.error("The result of run %s could not be stored under its idempotency key", entry.run_id)


def _outcome(entry: _Replay, run: RunState) -> _Replay:
    """Return the entry of a run that has ended."""
    if run.problem is not None:
        return _Replay(entry.params, entry.run_id, problem=dict(run.problem))
    if run.result is None:
        return _Replay(entry.params, entry.run_id, is_lost=True)
    duration = (run.finished_at or 0.0) - (run.started_at or run.record.accepted_at)
    return _Replay(entry.params, entry.run_id, duration, msgspec.Raw(run.result))


async def _forget(store: Store, key: str, claim: bytes) -> None:
    try:
        await store.delete(key, claim)
    except BackendUnavailable:
        log.error("An unused idempotency key could not be released; calls with it are refused until it expires")


def _store_key(invocation: Invocation) -> str:
    """Keys and names hold any character: a hash of all three can't be mistaken for another's."""
    scope = _encode([invocation.owner, invocation.name, invocation.idempotency_key])
    return f"idempotency:{hashlib.sha256(scope).hexdigest()}"


def _decoded(text: bytes) -> _Replay:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.error("The stored value of an idempotency key was not written by this program")
        raise Conflict("The stored result of this idempotency key can't be read; use another key.") from None


def _replay(entry: _Replay, params: str) -> Result:
    if entry.params != params:
        raise ValidationError("This idempotency key was used before, with other parameters.")
    if entry.problem is not None:
        raise error_from_problem(entry.problem | {"replayed": True})
    if entry.is_lost:
        raise Conflict(
            "The first call with this idempotency key has ended, but its result was not stored: the caller's limit "
            "was reached (state_limit_reached). A call with this key does not run again.",
            run_id=entry.run_id,
        )
    if entry.is_claim:
        raise Conflict(
            "The first call with this idempotency key is still running.", run_id=entry.run_id, retry_after=1.0
        )
    return Result(bytes(entry.result), entry.run_id, entry.duration, replayed=True)
