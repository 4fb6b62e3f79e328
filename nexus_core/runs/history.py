"""`RunHistory`: the runs of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from operator import attrgetter
from typing import TYPE_CHECKING

from nexus_core.errors import RunNotFound
from nexus_core.events.event import WORKFLOW_QUEUED, WORKFLOW_STARTED
from nexus_core.runs.local_questions import LocalQuestions
from nexus_core.runs.run import Run
from nexus_core.runs.status import RunStatus
from nexus_core.state.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.events.event import EventBus
    from nexus_core.runs.record import RunFilter, RunState
    from nexus_core.state.shares import Share
    from nexus_core.types.principal import Principal
    from nexus_core.types.result import Result

KEPT_BYTES = 1000
"""What a run with a kept result counts for in addition to that, when deciding who has the most."""


class RunHistory:
    """The runs of this process: running ones, and the latest that ended, bounded in time, in count and in bytes.

    Where there are too many, those go first whose caller has got the result. Of the others, and of their results, the
    oldest of the caller who has the most goes: a caller with few runs keeps them however many others make.

    Args:
        history: How many ended runs are kept.
        history_bytes: How many bytes of results and events are kept with them, not counting awaited ones.
        history_ttl: For how many seconds.

    Attributes:
        questions: What these runs ask, where no run store has it.
    """

    def __init__(self, history: int, history_bytes: int, history_ttl: float) -> None:
        self._history = history
        self._history_ttl = history_ttl
        self._history_bytes = history_bytes
        self._running: dict[str, Run] = {}
        self._ended: OrderedDict[str, Run] = OrderedDict()
        self._taken: OrderedDict[str, None] = OrderedDict()
        self._kept = Shares()
        self._shares: dict[str, Share] = {}
        self.questions = LocalQuestions()

    def begin(self, run: Run, principal: Principal | None, session_id: str | None, payer: str) -> None:
        """Keep a run that begins, and tell it. One that has begun before, to wait for another's result, goes on.

        Args:
            run: The run.
            principal: The caller, or None where authentication is off.
            session_id: The id of the call's session, or None.
            payer: Whose share of the history a kept result counts for.
        """
        if run.status is RunStatus.PENDING:
            self._admit(run, principal, session_id, payer)
        elif run.status is not RunStatus.BLOCKED:
            return
        run.status = RunStatus.RUNNING
        run.publish(WORKFLOW_STARTED)

    def queue(
        self, run: Run, principal: Principal | None, session_id: str | None, payer: str, position: int
    ) -> None:  # fmt: skip
        """Keep a run that waits for others, and tell it; `begin` begins it.

        Args:
            run: The run.
            principal: See `begin`.
            session_id: See `begin`.
            payer: See `begin`.
            position: How many runs are before it.
        """
        if run.status is RunStatus.PENDING:
            self._admit(run, principal, session_id, payer)
            run.status = RunStatus.BLOCKED
        run.publish(WORKFLOW_QUEUED, {"position": position})

    def accept(self, run: Run, principal: Principal | None, session_id: str | None, payer: str) -> None:
        """Keep a run that others begin; see `begin` for the arguments."""
        if run.status is RunStatus.PENDING:
            self._admit(run, principal, session_id, payer)

    def withdraw(self, run: Run) -> None:
        """Forget a run that was not accepted after all."""
        self._running.pop(run.id, None)

    def restore(self, state: RunState, bus: EventBus) -> Run:
        """Return a stored run that goes on here from now on, and keep it."""
        record = state.record
        run = Run(record.workflow, record.channel, bus, has_key=record.has_key, keeps_result=False)
        run.id, run.status, run.started_at = record.id, state.status, record.accepted_at
        run.last_number, run.owner, run.session_id = state.last_event, record.owner, record.session_id
        run.user_id = None if record.principal is None else record.principal.user_id
        run.payer = record.owner or ""
        run.basis = {"version": record.version or "", "schema_hash": record.schema_hash, "parent": record.parent or ""}
        self._running[run.id] = run
        return run

    def _admit(self, run: Run, principal: Principal | None, session_id: str | None, payer: str) -> None:
        if principal:
            run.user_id, run.owner = principal.user_id, principal.identity
        run.payer = payer if run.keeps_result else run.owner or ""
        run.session_id = session_id
        self._running[run.id] = run

    def end(self, run: Run) -> None:
        """Move a run to the history, if it had begun. What is over the bounds is dropped, oldest first."""
        if self._running.pop(run.id, None) is None:
            return
        if run.asked:
            self.questions.withdraw(run.id, time.time())
        if run.is_left and not run.ended:
            return  # it goes on elsewhere
        if not run.keeps_result and not run.followers:
            run.forget_output()
        self._ended[run.id] = run
        size = run.bytes_kept()
        if size or run.keeps_result:
            self._shares[run.id] = self._kept.add(run.payer, run.id, size + KEPT_BYTES)
        else:
            self._taken[run.id] = None
        if len(self._ended) > self._history:
            self._drop(next(iter(self._taken or self._kept.heaviest().sizes)))
        self._drop_expired()
        while size and self.kept_bytes > self._history_bytes:
            heaviest = next(iter(self._kept.heaviest().sizes))
            if (steps := self._ended[heaviest].steps) is not None:
                steps.forget()
            self._take_away(heaviest)

    @property
    def kept_bytes(self) -> int:
        """The bytes of the events and results of runs that have ended."""
        return self._kept.size - self._kept.count * KEPT_BYTES

    async def take_result(self, run: Run) -> Result:
        """Return what a run gives once it has ended, to its caller: it is not kept for other callers.

        Raises:
            NexusError: What it failed with.
        """
        result = await run.outcome()
        run.keeps_result = False
        if run.id in self._shares:
            self._take_away(run.id)
            if run.steps is not None and run.steps.size:
                del self._taken[run.id]
                self._shares[run.id] = self._kept.add(run.payer, run.id, run.steps.size + KEPT_BYTES)
        return result

    def _take_away(self, run_id: str) -> None:
        """Drop a run's result and events; who waits for them has them yet."""
        self._kept.remove(self._shares.pop(run_id), run_id)
        self._taken[run_id] = None
        self._ended[run_id].forget()

    def _drop(self, run_id: str) -> None:
        if self._ended.pop(run_id).asked:
            self.questions.forget(run_id)
        share = self._shares.pop(run_id, None)
        if share is None:
            del self._taken[run_id]
        else:
            self._kept.remove(share, run_id)

    def _drop_expired(self) -> None:
        """Drop the runs that ended too long ago. They are in the order in which they ended."""
        since = time.time() - self._history_ttl
        while self._ended and ((oldest := next(iter(self._ended.values()))).finished_at or 0.0) < since:
            self._drop(oldest.id)

    def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            RunNotFound: No such id, or it is no longer kept.
        """
        self._drop_expired()
        run = self._running.get(run_id) or self._ended.get(run_id)
        if run is None:
            raise RunNotFound("There is no run with this id, or it is no longer stored.")
        return run

    def find(
        self, *, workflow: str | None = None, status: str | None = None, limit: int = 100,
        visible: Callable[[Run], bool] | None = None,
    ) -> list[Run]:  # fmt: skip
        """Return runs, newest first, that fit what is asked for."""
        self._drop_expired()
        newest_first = [*reversed(self._running.values()), *reversed(self._ended.values())]
        newest_first.sort(key=lambda run: run.id, reverse=True)
        found: list[Run] = []
        for run in newest_first:
            if len(found) >= limit:
                break
            fits = (workflow is None or run.workflow == workflow) and (status is None or run.status == status)
            if fits and (visible is None or visible(run)):
                found.append(run)
        return found

    def of_this_process(self, run_id: str) -> Run | None:
        """Return a run that is kept here, or None."""
        return self._running.get(run_id) or self._ended.get(run_id)

    def matching(self, wanted: RunFilter, owner: str | None, *, of_everyone: bool = False) -> list[Run]:
        """Return the runs of an owner, or of everyone, that a filter shows, newest first."""
        self._drop_expired()
        every = [*self._running.values(), *self._ended.values()]
        found = [
            run
            for run in every
            if (of_everyone or run.owner == owner)
            and wanted.shows(run.cursor, run.workflow, run.channel, run.owner, run.status)
        ]
        found.sort(key=attrgetter("cursor"), reverse=True)
        return found[: wanted.limit]

    def counts(self) -> list[tuple[tuple[str, ...], int]]:
        """Return how many runs are kept, by whether they have ended."""
        return [(("running",), len(self._running)), (("ended",), len(self._ended))]

    def running(self) -> list[Run]:
        """Return the runs that have not ended."""
        return [*self._running.values()]
