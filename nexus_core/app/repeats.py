"""`CallerRepeats`: runs of a caller's that are repeated, from their beginning or from a step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import Conflict, MalformedRequest, NexusError, Overloaded, PermissionDenied, ValidationError
from nexus_core.pipeline.durable_task import params_of
from nexus_core.pipeline.invocation import Invocation
from nexus_core.runs.run import Run
from nexus_core.runs.status import RunStatus
from nexus_core.runs.work import Beginning, WorkPosition
from nexus_core.text import nearest, printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from nexus_core.app.state import Running
    from nexus_core.options.settings import CoreSettings
    from nexus_core.pipeline.invocation import Caller
    from nexus_core.runs.record import RunFilter, RunState
    from nexus_core.runs.stored_run import AnyRun

MOST_AT_ONCE = 1000
"""Runs that one request retries at most."""

SHOWN = 20
"""Ids that the preview of a request shows."""

REPEATED = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.COMPLETED, RunStatus.BLOCKED)
"""Statuses of runs that are retried by a filter."""

FIELD = "from_step"
"""The name of the step in requests, for errors."""

STEPS_NAMED = 30
"""Steps that an error names."""


class CallerRepeats:
    """Repeats runs of one caller's. Each repetition is a new call of the caller's, with all that is checked of calls.

    Args:
        start: Returns the started platform.
        options: Those of the core.
        caller: The caller.
        find: Returns one of its runs, or for operators another's.
        search: Returns those of its runs that a filter shows.
        cancel: Cancels one of its runs.
        submit: Starts a run.
    """

    def __init__(
        self, start: Callable[[], Awaitable[Running]], options: CoreSettings, caller: Caller,
        find: Callable[[str], Awaitable[AnyRun]], search: Callable[[RunFilter], Awaitable[list[AnyRun]]],
        cancel: Callable[[AnyRun], Awaitable[bool]], submit: Callable[[Invocation], Run],
    ) -> None:  # fmt: skip
        self._start = start
        self._options = options
        self._caller = caller
        self._find, self._search, self._cancel, self._submit = find, search, cancel, submit

    async def retry(self, run_id: str, key: str | None = None) -> AnyRun:
        """Start a new run with the workflow and the parameters of another one, which has ended or is blocked.

        A blocked run is cancelled then: its work would be done twice.

        Args:
            run_id: The other run.
            key: An idempotency key. With the same one, the same new run is returned.

        Raises:
            RunNotFound: The caller has no such run.
            PermissionDenied: It is another's.
            Conflict: It goes on, or its parameters are not kept.
            NexusError: The call was refused.
        """
        run, state = await self._repeatable(run_id)
        invocation = self._call(run, await self._params(run, state), key)
        return await self._begun(invocation, run)

    async def fork(
        self, run_id: str, from_step: str | int, params: Mapping[str, Any] | None = None, key: str | None = None
    ) -> AnyRun:
        """Start a new run that has done what a durable run did before a step, and does the rest again; see `retry`.

        Args:
            run_id: The other run.
            from_step: The first step that is done again: its name, or its number among the recorded ones, from 1.
            params: New parameters; None for those of the other run.
            key: See `retry`.

        Raises:
            ValidationError: The run has recorded no such step, or several.
            Conflict: It goes on, is not durable, or its steps are not kept.
            RunNotFound, PermissionDenied, NexusError: See `retry`.
        """
        run, state = await self._repeatable(run_id)
        durable = (await self._start()).durable
        if durable is None or state is None or not state.record.durable:
            raise Conflict(f"Run {run.id} is not durable: it can be retried, not forked.", run_id=run.id)
        places = place_of(from_step, await durable.engine.places(run.id), run.id)
        given = dict(params) if params is not None else await self._params(run, state)
        invocation = self._call(run, given, key)
        invocation.beginning = Beginning(run.id, places) if places else None
        return await self._begun(invocation, run)

    async def _repeatable(self, run_id: str) -> tuple[AnyRun, RunState | None]:
        """Return a run of the caller's that has ended or is blocked, and what the run store has of it."""
        if not self._options.enable_async_execution:
            raise Conflict("Runs are repeated in the background, and enable_async_execution is off.")
        run = await self._find(run_id)
        if run.owner != self._caller.owner:
            raise PermissionDenied("A run is repeated by its own caller only.")
        recorder = (await self._start()).recorder
        state = None if recorder is None else await recorder.store.get(run.id)
        if not _is_repeatable(run):
            raise Conflict(
                f"Run {run.id} is {run.status}: a run is repeated once it has ended. Cancel it first, or wait.",
                run_id=run.id,
            )
        return run, state

    async def _params(self, run: AnyRun, state: RunState | None) -> dict[str, Any]:
        """Return the parameters of a run.

        Raises:
            Conflict: They are not kept.
        """
        durable = (await self._start()).durable
        if durable is not None and (task := await durable.engine.task(run.id)) is not None:
            return params_of(task)
        if state is None:
            raise Conflict(
                f"The parameters of run {run.id} are not kept: that needs a run store (option run_store). Call the "
                "workflow with them.", run_id=run.id,
            )  # fmt: skip
        if state.record.redacted:
            raise Conflict(
                f"The parameters of run {run.id} are stored without the secrets among them. Call the workflow with all "
                "of them.", run_id=run.id,
            )  # fmt: skip
        params: dict[str, Any] = jsontext.parse_trusted(state.record.params or b"{}")
        return params

    def _call(self, run: AnyRun, params: dict[str, Any], key: str | None) -> Invocation:
        invocation = Invocation.of(self._caller, run.workflow, params, key)
        invocation.session_id = invocation.session_id or run.session_id
        invocation.parent = run.id
        return invocation

    async def _begun(self, invocation: Invocation, run: AnyRun) -> AnyRun:
        """Return the run of a call once it has begun.

        Raises:
            NexusError: The call was refused.
        """
        with self._submit(invocation).hold() as new:
            await new.started_or_rejected()
            begun: AnyRun = new
            if new.done and (new.error is not None or new.result is not None):
                first = new.events_after(0)[0]
                if first.is_terminal:  # it was refused, or answered with the result of an earlier call
                    begun = await self._find((await new.outcome()).run_id)
        if run.status == RunStatus.BLOCKED:
            await self._cancel(run)
        return begun

    # ---- many at once

    async def retry_all(self, wanted: RunFilter, batch: str | None, *, dry_run: bool) -> dict[str, Any]:
        """Retry the runs of the caller's that a filter shows, the newest first; at most `MOST_AT_ONCE`.

        Args:
            wanted: The filter. Of the runs that it shows, those are left out that have not ended and are not blocked.
            batch: An id of the caller's. With the same one, a run is retried once, however often that is asked.
            dry_run: Whether to count only what would be retried.

        Returns:
            How many there are (``runs``), and ``next`` where older ones may follow. For a dry run ``first``, the first
            ids. Else what became of each: ``retried``, ``refused`` with the error, and how many were not tried
            (``left``) since the platform takes no more now; they are retried when the request is repeated.

        Raises:
            MalformedRequest: There is no ``batch`` or no ``status``, or the filter shows another's runs.
            BackendUnavailable: The run store does not answer.
        """
        if wanted.owner not in (None, self._caller.owner):
            raise MalformedRequest("caller: runs are repeated by their own caller only.")
        if wanted.status not in REPEATED:
            raise MalformedRequest(f"status: required, one of {', '.join(REPEATED)}.")
        if not dry_run and not batch:
            raise MalformedRequest("batch: required. It is an id of your own, with which no run is retried twice.")
        limit = min(wanted.limit, MOST_AT_ONCE)
        found = await self._search(replace(wanted, limit=limit))
        fitting = [run for run in found if _is_repeatable(run)]
        page: dict[str, Any] = {"dry_run": dry_run, "runs": len(fitting)}
        if len(found) == limit:
            page["next"] = str(found[-1].cursor)
        if dry_run:
            return page | {"first": [run.id for run in fitting[:SHOWN]]}
        return page | await self._retry_each(fitting, f"retry {batch}")

    async def _retry_each(self, runs: Sequence[AnyRun], batch: str) -> dict[str, Any]:
        """Retry runs, until one is refused for a reason that holds for all and only for a time."""
        retried: list[dict[str, str]] = []
        refused: list[dict[str, Any]] = []
        for run in runs:
            try:
                new_id = (await self.retry(run.id, f"{batch} {run.id}")).id
            except Conflict as exc:
                if exc.run_id in (None, run.id):
                    refused.append({"run_id": run.id, "error": exc.problem()})
                    continue
                new_id = exc.run_id or ""  # an earlier request of this batch has retried it, and that run goes on
            except NexusError as exc:
                refused.append({"run_id": run.id, "error": exc.problem()})
                if exc.exit_code == Overloaded.exit_code:
                    break
                continue
            retried.append({"run_id": run.id, "new_run_id": new_id})
        left = len(runs) - len(retried) - len(refused)
        return {"retried": retried, "refused": refused, "left": left}


def _is_repeatable(run: AnyRun) -> bool:
    """Whether a run has ended, or is blocked since its code has changed."""
    if run.done or run.status != RunStatus.BLOCKED:
        return run.done
    return run.place is None or isinstance(run.place, WorkPosition) if isinstance(run, Run) else run.is_durable


def place_of(step: str | int, names: Sequence[str], run_id: str) -> int:
    """Return how many recorded steps come before one.

    Args:
        step: Its name, or its number from 1. The number after the last one is that of the next step.
        names: The recorded names.
        run_id: The run, for the error.

    Raises:
        ValidationError: There is no such step, or there are several.
        Conflict: No step is recorded.
    """
    if isinstance(step, str) and step not in names and step.isascii() and step.isdigit() and len(step) < 10:
        step = int(step)
    if not names and step != 1:
        raise Conflict(f"Run {run_id} has no recorded steps, or they are not kept any more. Retry it.", run_id=run_id)
    numbers = [number for number, name in enumerate(names, 1) if name == step]
    if isinstance(step, int) and 1 <= step <= len(names) + 1:
        return step - 1
    if len(numbers) == 1:
        return numbers[0] - 1
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names[:STEPS_NAMED], 1))
    if len(names) > STEPS_NAMED:
        listed += f", ... ({len(names)} in all)"
    if numbers:
        reason = f'Run {run_id} has {len(numbers)} steps "{step}": give the number of one'
    else:
        near = nearest(step, [*names]) if isinstance(step, str) else None
        hint = f' Did you mean "{near}"?' if near else ""
        reason = f'Run {run_id} has no step "{printable(str(step), 200)}".{hint} Its steps'
    message = f"{reason}: {listed}."
    raise ValidationError(f"{FIELD}: {message}", errors=[{"pointer": f"/{FIELD}", "message": message}])
