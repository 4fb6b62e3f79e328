"""`StoredRun`: a run of a run store, as channels read it. `RunLookup`: runs of this process and of the store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

from nexus_core import jsontext
from nexus_core.errors import NexusError, RunNotFound, error_from_problem
from nexus_core.events.event import ChannelEvent
from nexus_core.runs.question import QuestionFilter
from nexus_core.runs.run import Run
from nexus_core.runs.shown import QUESTIONS_SHOWN, shown_run
from nexus_core.runs.status import RunStatus
from nexus_core.runs.work import WorkPosition
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.question import RunQuestion
    from nexus_core.runs.record import RunCursor, RunEvent, RunFilter, RunState, RunStep
    from nexus_core.runs.shown import PlaceInQueue
    from nexus_core.runs.store import RunStore


class StoredRun:
    """A run that another process works on, or that has ended. It reads like a `Run`.

    Attributes:
        id, workflow, channel, session_id, owner: See `Run`.
        status: The status when it was last read.
        place: Where it was in its queue, while it waited in one.
        blocked_by: Why it can't go on, while it is blocked for another reason.
        questions: The open questions that it waited for.
    """

    def __init__(self, state: RunState, store: RunStore) -> None:
        self._state = state
        self._store = store
        record = state.record
        self.id, self.workflow, self.channel = record.id, record.workflow, record.channel
        self.session_id, self.owner = record.session_id, record.owner
        self.place: PlaceInQueue | None = None
        self.blocked_by: NexusError | None = None
        self.questions: list[RunQuestion] = []

    @property
    def status(self) -> str:
        """The status when it was last read."""
        return self._state.status

    @property
    def done(self) -> bool:
        """Whether it had ended when it was last read."""
        return self._state.has_ended

    ended = done

    @property
    def is_durable(self) -> bool:
        """Whether a `RunEngine` does its work."""
        return self._state.record.durable

    @property
    def error(self) -> NexusError | None:
        """The error that it ended with, or None."""
        return None if self._state.problem is None else error_from_problem(self._state.problem)

    @property
    def result(self) -> Result | None:
        """The result, once it has ended."""
        state = self._state
        if state.result is None:
            return None
        duration = state.duration
        if duration is None:
            duration = (state.finished_at or 0.0) - state.record.accepted_at
        return Result(state.result, self.id, duration)

    @property
    def cursor(self) -> RunCursor:
        """Its place in listings."""
        return self._state.cursor

    @property
    def basis(self) -> Mapping[str, str]:
        """See `Run.basis`."""
        record = self._state.record
        return {"version": record.version or "", "schema_hash": record.schema_hash, "parent": record.parent or ""}

    def hold(self) -> Self:
        """Return itself: what the store holds is there for every caller."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def refresh(self) -> None:
        """Read it again.

        Raises:
            RunNotFound: It is no longer kept.
            BackendUnavailable: The store does not answer.
        """
        state = await self._store.get(self.id)
        if state is None:
            raise RunNotFound(f"Run {self.id} is no longer kept.")
        self._state = state

    async def read_place(self) -> None:
        """Read where the run is in the queue of its key, if it waits in one, or else what it is blocked by.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        if self.status == RunStatus.BLOCKED:
            for stored in await self._store.events(self.id, max(self._state.last_event - 1, 0), 1):
                event = _StoredEvent(stored)
                self.blocked_by = event.error
                if (position := (event.data or {}).get("position")) is not None:
                    self.place = _StoredPlace(position)

    async def read_questions(self) -> None:
        """Read which answers the run waits for, if it does.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        wanted = QuestionFilter(run_id=self.id, limit=QUESTIONS_SHOWN)
        self.questions = await self._store.questions(wanted) if self.status == RunStatus.WAITING else []

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, for at most ``timeout`` seconds. Returns whether it has."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.done:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            await self._store.changed(self.id, self._state.last_event, left)
            await self.refresh()
        return True

    async def settled(self, timeout: float) -> None:
        """Wait until the run has ended or waits for an answer, for at most ``timeout`` seconds."""
        end = time.monotonic() + timeout
        await self.read_questions()
        while not (self.done or self.questions):
            left = end - time.monotonic()
            if left <= 0:
                return
            await self._store.changed(self.id, self._state.last_event, left)
            await self.refresh()
            await self.read_questions()

    async def outcome(self) -> Result:
        """Wait for the end and return the result.

        Raises:
            NexusError: What the run failed with.
        """
        await self.wait()
        if (error := self.error) is not None:
            raise error
        if (result := self.result) is None:
            raise RunNotFound(f"The result of run {self.id} is no longer kept.")
        return result

    async def reply(self) -> None:
        """Return None: event handlers are asked where the run ended, for its caller."""

    async def cancel(self) -> bool:
        """Ask the process that runs it to cancel it. Returns False when it has ended already."""
        return await self._store.request_cancel(self.id)

    @overload
    def follow(self, after: int = 0) -> AsyncGenerator[ChannelEvent, None]: ...

    @overload
    def follow(self, after: int = 0, *, heartbeat: float) -> AsyncGenerator[ChannelEvent | None, None]: ...

    async def follow(
        self, after: int = 0, *, heartbeat: float | None = None
    ) -> AsyncGenerator[ChannelEvent | None, None]:
        """Yield the run's events with a number above ``after``; see `Run.follow`."""
        async with aclosing(self._store.follow(self.id, after, heartbeat)) as events:
            async for event in events:
                yield None if event is None else await self._event(event)
        await self.refresh()

    async def past(self, after: int) -> list[ChannelEvent]:
        """Return the run's events with a number above ``after``, as far as there are any.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        found: list[ChannelEvent] = []
        while page := await self._store.events(self.id, found[-1].number if found else after):
            found += [await self._event(event) for event in page]
        return found

    async def _event(self, stored: RunEvent) -> ChannelEvent:
        event = _StoredEvent(stored)
        if event.is_terminal:
            await self.refresh()
            event.result = self.result
        return event

    def to_dict(self, *, with_result: bool = True) -> dict[str, Any]:
        """Return the run as channels show it; see `Run.to_dict`."""
        state, record = self._state, self._state.record
        result = state.result if with_result else None
        error = state.problem
        if error is None and self.blocked_by is not None and self.status == RunStatus.BLOCKED:
            error = self.blocked_by.problem()
        return shown_run(
            self.id, self.workflow, self.channel, state.status, record.accepted_at, state.finished_at,
            session_id=self.session_id, user_id=None if record.principal is None else record.principal.user_id,
            place=self.place, result={} if result is None else {"result": jsontext.parse_trusted(result)},
            error=error, questions=self.questions if with_result else (), basis=self.basis if with_result else {},
        )  # fmt: skip


class _StoredEvent(ChannelEvent):
    """An event as it was stored."""

    def __init__(self, stored: RunEvent) -> None:
        members = stored.to_dict()
        super().__init__(
            members["type"], members.get("workflow", ""), members.get("channel", ""), members.get("run_id", ""),
            members.get("session_id"), data=members.get("data"), duration=members.get("duration"),
            error=None if "error" not in members else error_from_problem(members["error"]), number=stored.number,
            time=members["time"],
        )  # fmt: skip


def _interrupted(step: RunStep) -> RunStep:
    """Return a step of a run that has ended: one without an end was interrupted, since its process was killed."""
    return replace(step, outcome="interrupted") if step.outcome is None else step


AnyRun = Run | StoredRun
"""What a look-up returns: both read alike."""


class _StoredPlace(NamedTuple):
    position: int


FindPlace = Callable[[str], Awaitable["PlaceInQueue | None"]]
"""Returns where the work of a run waits."""


class RunLookup:
    """Finds runs: those of this process first, then those of the run store.

    Args:
        history: The runs of this process.
        store: The run store; None where runs are kept in this process alone.
        place: Returns where the work of a durable run waits; None without durable runs.
    """

    def __init__(self, history: RunHistory, store: RunStore | None, place: FindPlace | None = None) -> None:
        self._history = history
        self._store = store
        self._place = place

    async def get(self, run_id: str, owner: str | None, *, of_everyone: bool = False) -> AnyRun:
        """Return a run of an owner, or of everyone, and where it waits.

        Raises:
            RunNotFound: No such id, or it is no longer kept, or another's.
            BackendUnavailable: It is no run of this process, and the store does not answer.
        """
        run = await self._get(run_id, owner, of_everyone=of_everyone)
        waits_for_its_key = run.place is not None and not isinstance(run.place, WorkPosition)
        if self._place is not None and run.status in (RunStatus.PENDING, RunStatus.BLOCKED) and not waits_for_its_key:
            run.place = await self._place(run_id)
        return run

    async def _get(self, run_id: str, owner: str | None, *, of_everyone: bool) -> AnyRun:
        """Return a run of an owner, or of everyone.

        Raises:
            RunNotFound: No such id, or it is no longer kept, or another's.
            BackendUnavailable: It is no run of this process, and the store does not answer.
        """
        own = self._history.of_this_process(run_id)
        if own is not None and not (of_everyone or own.owner == owner):
            own = None
        if own is not None and (self._store is None or not own.done or own.holds_outcome):
            return own
        state = None if self._store is None else await self._store.get(run_id)
        if state is not None and (of_everyone or state.record.owner == owner) and self._store is not None:
            if own is None or own.is_left or state.has_ended:  # else the store does not know yet that it has
                stored = StoredRun(state, self._store)
                await stored.read_place()
                await stored.read_questions()
                return stored
        if own is None:
            raise RunNotFound("There is no run with this id, or it is no longer stored.")
        return own

    def forget_question(self, run_id: str, number: int) -> None:
        """Note that a question of a run was closed just now: its run may notice that a moment later."""
        if (own := self._history.of_this_process(run_id)) is not None:
            own.forget_question(number)

    async def steps(
        self, run_id: str, owner: str | None, after: int, limit: int, *, of_everyone: bool = False
    ) -> list[RunStep]:
        """Return the steps of an owner's run with numbers above ``after``, in order.

        Raises:
            RunNotFound: No such id, or it is no longer kept, or another's.
            BackendUnavailable: The store has them, and does not answer.
        """
        run = await self.get(run_id, owner, of_everyone=of_everyone)
        own = self._history.of_this_process(run_id)
        kept = None if own is None or not (of_everyone or own.owner == owner) else own.steps
        if self._store is not None and (kept is None or not kept.is_complete):  # another process may work on it
            stored = await self._store.steps(run_id, after, limit)
            if stored:
                return [_interrupted(step) for step in stored] if isinstance(run, StoredRun) and run.done else stored
        return [] if kept is None else kept.after(after, limit)

    async def find(self, wanted: RunFilter, owner: str | None, *, of_everyone: bool = False) -> list[AnyRun]:
        """Return the runs of an owner, or of everyone, that a filter shows, newest first.

        A run of this process is shown as it is now: the store may follow a moment later.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        own = self._history.matching(wanted, owner, of_everyone=of_everyone)
        found: dict[str, AnyRun] = {run.id: run for run in own}
        if self._store is not None:
            for state in await self._store.find(wanted):
                if of_everyone or state.record.owner == owner:
                    found.setdefault(state.record.id, StoredRun(state, self._store))
        newest_first = sorted(found.values(), key=lambda run: run.cursor, reverse=True)
        return newest_first[: wanted.limit]
