"""Runs: every execution of a workflow has an id under which it can be followed, listed and cancelled."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nexus_core.errors import NexusError, RunNotFound
from nexus_core.events import (
    TERMINAL,
    WORKFLOW_CANCELLED,
    WORKFLOW_COMPLETED,
    WORKFLOW_EVENT,
    WORKFLOW_FAILED,
    WORKFLOW_OUTPUT,
    WORKFLOW_PROGRESS,
    ChannelEvent,
    EventBus,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nexus_core.invocation import Invocation, Result

EVENTS_KEPT = 256
"""Progress events, and events of the workflow's own, kept for each run; older ones make room. Output never does."""

CANCEL_SECONDS = 1.0
"""How long a cancelled run is waited for before its caller is told; code may catch the cancellation and go on."""


class RunStatus(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STATUS_AFTER = {
    WORKFLOW_COMPLETED: RunStatus.COMPLETED,
    WORKFLOW_FAILED: RunStatus.FAILED,
    WORKFLOW_CANCELLED: RunStatus.CANCELLED,
}


def new_run_id() -> str:
    """Return an id that sorts by time and can't be guessed: 48 bits of milliseconds, 80 random bits, in hex."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class Run:
    """One execution, from the moment the pipeline takes it.

    Attributes:
        id: See `new_run_id`.
        workflow, channel, user_id, session_id: What runs, through which channel, for whom.
        status: A `RunStatus`.
        started_at, finished_at: Seconds since the epoch.
        result: The result, while it is kept. The result of a call whose caller got it at once is not.
        error: Why it failed or was cancelled.
        events: The run's events, oldest first.
        output_bytes: Bytes of JSON text that it has streamed.
        keeps_result: Whether history keeps result and output, because nobody was there to take them.
    """

    __slots__ = (
        "__weakref__", "_bus", "_give_up", "_task", "_told", "_waiters", "_work", "cancel_requested", "channel",
        "error", "events", "finished_at", "id", "keeps_result", "output_bytes", "result", "session_id", "started_at",
        "status", "user_id", "workflow",
    )  # fmt: skip

    def __init__(self, invocation: Invocation, bus: EventBus, *, keeps_result: bool = True) -> None:
        self.keeps_result = keeps_result
        self.id = new_run_id()
        self.workflow = invocation.name
        self.channel = invocation.channel
        self.user_id: str | None = None
        self.session_id: str | None = None
        self.status = RunStatus.PENDING
        self.started_at: float = time.time()
        self.finished_at: float | None = None
        self.result: Result | None = None
        self.error: NexusError | None = None
        self.events: list[ChannelEvent] = []
        self.output_bytes = 0
        self.cancel_requested = False
        self._bus = bus
        self._task: asyncio.Task[Any] | None = None
        self._give_up: Callable[[], None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._told: Counter[str] = Counter()
        self._work: list[asyncio.Future[Any]] = []

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self.finished_at is not None

    def publish(
        self,
        type: str,
        data: dict[str, Any] | None = None,
        *,
        result: Result | None = None,
        error: NexusError | None = None,
        duration: float | None = None,
    ) -> None:
        """Add an event to the run and pass it to the bus. After the terminal event, nothing more is added."""
        if self.done:
            return
        event = ChannelEvent(
            type, self.workflow, self.channel, self.id, self.session_id, self.user_id, data, result, error, duration
        )
        if type in TERMINAL:
            self.status, self.finished_at = _STATUS_AFTER[type], event.time
            self.result, self.error = result if self.keeps_result else None, error
        elif type in (WORKFLOW_PROGRESS, WORKFLOW_EVENT):
            self._make_room(type)
        self._bus.publish(event)
        self.events.append(event if self.result is result else event.without_result())
        if self._waiters:
            self._wake()

    def _make_room(self, type: str) -> None:
        self._told[type] += 1
        if self._told[type] > EVENTS_KEPT:
            del self.events[next(i for i, e in enumerate(self.events) if e.type == type)]

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def attach(self, task: asyncio.Task[Any], give_up: Callable[[], None] | None = None) -> None:
        """Name the task that does the work, for `cancel`.

        Args:
            task: The work.
            give_up: Called `CANCEL_SECONDS` after a cancellation: whoever waits for the task need wait no longer.
        """
        self._task, self._give_up = task, give_up
        if self.cancel_requested:
            self._stop()

    def cancel(self) -> bool:
        """Ask the run to stop. Returns False when it has ended already."""
        if self.done:
            return False
        self.cancel_requested = True
        self._stop()
        return True

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._give_up is not None:
            asyncio.get_running_loop().call_later(CANCEL_SECONDS, self._give_up)

    def outlives(self, work: asyncio.Future[Any]) -> None:
        """Note work that can't be stopped, such as a thread: the run's place is not free before it has ended."""
        self._work.append(work)

    def unfinished(self) -> list[asyncio.Future[Any]]:
        """Return the noted work that goes on."""
        return [work for work in self._work if not work.done()] if self._work else self._work

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, for at most ``timeout`` seconds. Returns whether it has."""
        try:
            async with asyncio.timeout(timeout):
                while not self.done:
                    await self.changed()
        except TimeoutError:
            return self.done
        return True

    async def settled(self) -> None:
        """Wait until the run has begun or has been refused: until its first event."""
        while not self.events:
            await self.changed()

    async def outcome(self) -> Result:
        """Wait for the end and return the result.

        Raises:
            NexusError: What the run failed with.
        """
        await self.wait()
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise RunNotFound(f"The result of run {self.id} is no longer kept.")
        return self.result

    def events_after(self, number: int) -> list[ChannelEvent]:
        """Return the events with a higher number, oldest first."""
        return [event for event in self.events if event.number > number]

    async def changed(self, timeout: float | None = None) -> bool:
        """Wait for the next event, for at most ``timeout`` seconds. Returns whether there is one."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return False
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return True

    async def follow(self, after: int = 0) -> AsyncIterator[ChannelEvent]:
        """Yield the run's events with a number above ``after``, from the past and as they come, up to the last."""
        while True:
            for event in (fresh := self.events_after(after)):
                after = event.number
                yield event
                if event.is_terminal:
                    return
            if not fresh:
                if self.done:
                    return
                await self.changed()

    def forget_result(self) -> None:
        """Drop result and output. The last event is copied, not changed: a handler may be about to read its result."""
        self.result, self.output_bytes = None, 0
        self.events = [event.without_result() for event in self.events if event.type != WORKFLOW_OUTPUT]

    def to_dict(self) -> dict[str, Any]:
        """Return the run as channels show it; the result or the error too, once there is one."""
        members: dict[str, Any] = {
            "run_id": self.id,
            "workflow": self.workflow,
            "channel": self.channel,
            "status": str(self.status),
            "started_at": self.started_at,
        }
        if self.finished_at is not None:
            members["finished_at"] = self.finished_at
            members["duration"] = round(self.finished_at - self.started_at, 6)
        if self.session_id is not None:
            members["session_id"] = self.session_id
        if self.user_id is not None:
            members["user_id"] = self.user_id
        if self.result is not None:
            members["result"] = self.result.value
        if self.error is not None:
            members["error"] = self.error.problem()
        return members


class RunStore:
    """The runs of this process: those that run, and the latest that ended, bounded in count and in bytes.

    Args:
        history: How many ended runs are kept.
        history_bytes: How many bytes of results are kept with them; the oldest results go first.
    """

    def __init__(self, history: int, history_bytes: int) -> None:
        self._history = history
        self._history_bytes = history_bytes
        self._running: dict[str, Run] = {}
        self._ended: OrderedDict[str, Run] = OrderedDict()
        self._kept_bytes = 0

    def add(self, run: Run) -> None:
        """Keep a run that has begun."""
        self._running[run.id] = run

    def end(self, run: Run) -> None:
        """Move a run to the history, if it was added. What is over the bounds is dropped, oldest first."""
        if self._running.pop(run.id, None) is None:
            return
        if len(run.events) > 2 and not run.keeps_result:
            run.events = [run.events[0], run.events[-1]]
            run.output_bytes = 0
        self._ended[run.id] = run
        self._kept_bytes += _kept_bytes(run)
        if len(self._ended) > self._history:
            _, dropped = self._ended.popitem(last=False)
            self._kept_bytes -= _kept_bytes(dropped)
        if self._kept_bytes > self._history_bytes:
            self._drop_oldest_results()

    def _drop_oldest_results(self) -> None:
        for run in list(self._ended.values()):
            if self._kept_bytes <= self._history_bytes:
                return
            self._kept_bytes -= _kept_bytes(run)
            run.forget_result()

    def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            RunNotFound: There is none of that id, or it is no longer kept.
        """
        run = self._running.get(run_id) or self._ended.get(run_id)
        if run is None:
            raise RunNotFound("There is no run of that id, or it is no longer kept.")
        return run

    def find(
        self, *, workflow: str | None = None, status: str | None = None, limit: int = 100,
        visible: Callable[[Run], bool] | None = None,
    ) -> list[Run]:  # fmt: skip
        """Return runs, newest first, that fit what is asked for."""
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

    def running(self) -> list[Run]:
        """Return the runs that have not ended."""
        return [*self._running.values()]


def _kept_bytes(run: Run) -> int:
    return run.output_bytes + (0 if run.result is None else len(run.result.json))
