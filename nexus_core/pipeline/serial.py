"""`Serial`: calls of a workflow with ``metadata["serial"]`` run one at a time for each key, in order."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import RunCancelled, WorkflowTimeout
from nexus_core.events.event import WORKFLOW_CANCELLED
from nexus_core.pipeline.stage import Call, Stage
from nexus_core.runs.status import RunStatus
from nexus_core.state.queues import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.pipeline.admission import Admission
    from nexus_core.pipeline.execution import Execution
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.recorder import RunRecorder
    from nexus_core.runs.run import Run
    from nexus_core.state.queues import QueueLimits, Queues
    from nexus_core.state.sessions import SessionStore
    from nexus_core.types.result import Result
    from nexus_core.workflows.workflow import Workflow

TELL_SECONDS = 1.0
"""Shortest time between two events with a run's position."""

_held: ContextVar[tuple[tuple[str, Place], ...]] = ContextVar("nexus_serial_held", default=())
"""The keys whose turn the running code has, for the calls that it makes itself."""


class Serial:
    """Lets calls of one key wait for each other. A call of a workflow without ``serial`` pays one look-up.

    A call that a workflow makes itself, while it has the turn of the same key, is a part of its work and does not wait.

    Args:
        queues: Where calls wait.
        limits: How many may.
        sessions: Where a call's session is read again when it has its turn: the call before may have changed it.
        runs: The runs of this process.
        execution: Knows time limits.
        admission: Has the places that waiting calls give back meanwhile.
        recorder: Stores runs; None where they are kept in this process alone.
    """

    stage = Stage.SERIAL

    def __init__(
        self, queues: Queues, limits: QueueLimits, sessions: SessionStore, runs: RunHistory, execution: Execution,
        admission: Admission, recorder: RunRecorder | None,
    ) -> None:  # fmt: skip
        self._queues = queues
        self._limits = limits
        self._sessions = sessions
        self._runs = runs
        self._execution = execution
        self._admission = admission
        self._recorder = recorder
        self._leaving: set[asyncio.Task[None]] = set()

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Pass the invocation on, at once or when it is its turn."""
        workflow = invocation.workflow
        if workflow is None or workflow.serial is None:
            return call_next(invocation)
        return self._in_turn(workflow, invocation, call_next)

    async def _in_turn(self, workflow: Workflow, invocation: Invocation, call_next: Call) -> Result:
        key, held = key_of(workflow, invocation), _held.get()
        if key is None or any(each == key and not place.is_over for each, place in held):
            return await call_next(invocation)
        place = Place(invocation.run.id)
        token = None
        try:
            await self._queues.join(key, place)
            if not place.turn.done():
                await self._wait(workflow, invocation, place)
            if invocation.session is not None:
                invocation.session = await self._sessions.get(invocation.session.id, invocation.owner)
            token = _held.set((*held, (key, place)))
            return await call_next(invocation)
        finally:
            if token is not None:
                _held.reset(token)
            await self._leave(key, place, invocation)

    async def _wait(self, workflow: Workflow, invocation: Invocation, place: Place) -> None:
        """Wait until a call has its turn.

        Raises:
            RunCancelled: It was cancelled.
            WorkflowTimeout: Its time limit has passed.
        """
        run, began = invocation.run, time.monotonic()
        limit = self._execution.limit(invocation, workflow)
        self._limits.waiting += 1
        try:
            if self._recorder is not None:
                await self._recorder.begin(
                    run, workflow, invocation.validated_params, invocation.principal,
                    invocation.session.id if invocation.session else None,
                    None if limit is None else time.time() + limit, invocation.trace, RunStatus.BLOCKED,
                )  # fmt: skip
            run.place = place
            run.attach(place.turn)
            _Teller(self._runs, invocation, place).tell()
            async with asyncio.timeout(limit) as patience, self._admission.aside(run):
                await place.turn
            if run.cancel_requested:
                raise _cancelled(run)
        except TimeoutError:
            if not patience.expired():
                raise
            raise WorkflowTimeout(
                f"The call did not begin within {limit:g} seconds: {place.position} calls with the same key were "
                "before it.",
                details={"position": place.position},
            ) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not run.cancel_requested or (task is not None and task.cancelling()):
                raise
            raise _cancelled(run) from None
        finally:
            place.moved = run.place = None
            self._limits.waiting -= 1
            invocation.queued = time.monotonic() - began

    async def _leave(self, key: str, place: Place, invocation: Invocation) -> None:
        """Give the turn to the next call, as soon as nothing of this one goes on."""
        if unfinished := invocation.run.unfinished():
            unfinished[0].add_done_callback(lambda _: self._leave_later(key, place, invocation))
        else:
            place.is_over = True
            await self._queues.leave(key, place)

    def _leave_later(self, key: str, place: Place, invocation: Invocation) -> None:
        task = asyncio.get_running_loop().create_task(self._leave(key, place, invocation))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """End what runs for it."""
        if self._leaving:
            await asyncio.wait([*self._leaving], timeout=1.0)
        await self._queues.close()


def _cancelled(run: Run) -> RunCancelled:
    error = RunCancelled("The run was cancelled.", run_id=run.id)
    run.publish(WORKFLOW_CANCELLED, error=error)
    return error


class _Teller:
    """Tells followers of a run where it is in its queue: at once, then at most every `TELL_SECONDS`."""

    __slots__ = ("_invocation", "_last", "_place", "_runs")

    def __init__(self, runs: RunHistory, invocation: Invocation, place: Place) -> None:
        self._runs = runs
        self._invocation = invocation
        self._place = place
        self._last = 0.0
        place.moved = self.moved

    def moved(self) -> None:
        if time.monotonic() - self._last >= TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        self._last = time.monotonic()
        self._invocation.queue_run(self._runs, self._place.position)


def key_of(workflow: Workflow, invocation: Invocation) -> str | None:
    """Return the key for which a call runs alone; None where it has none, such as without a session.

    A session's key is the same for all workflows.
    """
    serial = workflow.serial
    scope: list[Any]
    if serial == "session":
        if invocation.session is None:
            return None
        scope = ["session", invocation.session.id]
    elif serial == "caller":
        scope = ["caller", workflow.name, invocation.payer]
    else:
        name = serial or ""
        schema = workflow.input_schema.get("properties", {}).get(name, {})
        default = schema.get("default") if isinstance(schema, dict) else None
        value = invocation.validated_params.get(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 1.0 and 1 are one number in JSON
        scope = ["parameter", workflow.name, name, value]
    return hashlib.sha256(jsontext.canonical(scope)).hexdigest()
