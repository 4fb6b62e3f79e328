"""Runs: every execution of a workflow has an id under which it can be followed, listed and cancelled."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self, overload

from nexus_core import jsontext
from nexus_core.concurrency.threads import call_on
from nexus_core.errors import NexusError, RunNotFound
from nexus_core.events.event import (
    REPLY_SECONDS,
    TERMINAL,
    WORKFLOW_EVENT,
    WORKFLOW_OUTPUT,
    ChannelEvent,
    EventBus,
)
from nexus_core.runs.hold import Hold
from nexus_core.runs.record import RunCursor
from nexus_core.runs.shown import problem_of, shown_run
from nexus_core.runs.status import EVENT_BYTES, EVENTS_KEPT, STATUS_AFTER, STATUS_DURING, RunStatus, new_run_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from nexus_core.runs.question import RunQuestion
    from nexus_core.runs.shown import PlaceInQueue
    from nexus_core.runs.step_log import StepLog
    from nexus_core.types.result import Result

CANCEL_SECONDS = 1.0
"""How long a cancelled run is waited for before its caller gets its answer; code may ignore the cancellation."""


class Run:
    """One execution, from the moment the pipeline takes it.

    Attributes:
        id: See `new_run_id`.
        workflow, channel, user_id, session_id: What runs, through which channel, for whom.
        owner: The `Principal.identity` it belongs to, or None where authentication is off.
        status: A `RunStatus`.
        started_at, finished_at: Seconds since the epoch.
        result: The result, while it is kept. The result of a call whose caller got it at once is not.
        error: Why it failed or was cancelled.
        output_bytes: Bytes of JSON text that it has streamed.
        has_key: Whether its caller gave an idempotency key.
        followers: How many wait for it or follow it, see `hold`: for them, all that it gave stays there.
        keeps_result: Whether history keeps result and output, because no caller took them.
        payer: Whose share of the history a kept result counts for.
        place: Its place in the queue in which it waits for others of its key.
        steps: The steps of the workflow, or None without one.
        last_number, asked: The number of its latest event, and of its latest question.
        questions: Its open questions.
        is_left: Whether its process has left it to others: what it still says here is not the run's.
        basis: ``version``, ``schema_hash`` and ``parent``, as `RunRecord` has them.
    """

    __slots__ = (
        "__weakref__", "_bus", "_give_up", "_is_closed", "_is_forgotten", "_output_events",
        "_replies", "_steps", "_task", "_waiters", "_work", "asked", "basis", "cancel_requested", "channel", "error",
        "finished_at", "followers", "has_key", "id", "is_left", "keeps_result", "last_number", "output_bytes",
        "owner", "payer", "place", "questions", "result", "session_id", "started_at", "status", "steps", "user_id",
        "workflow",
    )  # fmt: skip

    def __init__(
        self, workflow: str, channel: str, bus: EventBus, *, has_key: bool = False, keeps_result: bool = True
    ) -> None:
        self.keeps_result, self.has_key = keeps_result, has_key
        self.id = new_run_id()
        self.workflow, self.channel = workflow, channel
        self.basis: Mapping[str, str] = {}
        self.user_id: str | None = None
        self.owner: str | None = None
        self.payer = ""
        self.session_id: str | None = None
        self.status = RunStatus.PENDING
        self.started_at: float = time.time()
        self.finished_at: float | None = None
        self.result: Result | None = None
        self.error: NexusError | None = None
        self.place: PlaceInQueue | None = None
        self.steps: StepLog | None = None
        self.questions: tuple[RunQuestion, ...] = ()
        self.output_bytes = self.followers = self.asked = self.last_number = 0
        self.cancel_requested = self.is_left = self._is_closed = self._is_forgotten = False
        self._bus = bus
        self._task: asyncio.Future[Any] | None = None
        self._give_up: Callable[[], None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._steps: list[ChannelEvent] = []
        self._output_events: dict[str, deque[ChannelEvent]] = {}
        self._work: list[asyncio.Future[Any]] = []
        self._replies: list[asyncio.Future[Any]] = []

    def leave(self) -> None:
        """Leave the run to other processes: it has not ended."""
        self.is_left = True
        self._wake()

    @property
    def ended(self) -> bool:
        """Whether the work has ended. What the policies keep of it may not be kept yet."""
        return self.finished_at is not None

    @property
    def cursor(self) -> RunCursor:
        """Its place in listings."""
        return RunCursor(self.started_at, self.id)

    @property
    def holds_outcome(self) -> bool:
        """Whether its result or its error is still there."""
        return self.result is not None or self.error is not None

    @property
    def done(self) -> bool:
        """Whether the work has ended, and the policies have done with it: its session and its key are updated."""
        return self._is_closed

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
        if self.finished_at is not None or self.is_left:
            return
        error = None if error is None else error.copy()
        event = ChannelEvent(
            type, self.workflow, self.channel, self.id, self.session_id, self.user_id, data, result, error, duration,
            owner=self.owner, number=self.last_number + 1,
        )  # fmt: skip
        self._add(event, self._bus)

    def relay(self, event: ChannelEvent) -> None:
        """Add an event that another process has published, unless it is there. It is not passed to the bus."""
        if event.number <= self.last_number or self.ended:
            return
        self.status = STATUS_DURING.get(event.type, self.status)
        self._add(event, None)

    def _add(self, event: ChannelEvent, bus: EventBus | None) -> None:
        type = event.type
        self.last_number = event.number
        if type in TERMINAL:
            self.status, self.finished_at = STATUS_AFTER[type], event.time
            self.result, self.error = event.result if self.keeps_result or self.followers else None, event.error
            if self.steps is not None:
                self.steps.close(event.time)
            self._task = self._give_up = None  # they hold the workflow's locals, and what it returned
        if bus is not None:
            bus.publish(event)
            if event.replies:
                self._replies, event.replies = event.replies, None
        kept = event if self.result is event.result else event.without_result()
        if type not in EVENTS_KEPT:
            self._steps.append(kept)
        elif type in self._output_events:
            self._output_events[type].append(kept)
        else:
            self._output_events[type] = deque([kept], EVENTS_KEPT[type])
        if self._waiters:
            self._wake()

    def close(self) -> None:
        """Note that the run has left the pipeline. Only now are waiting callers notified of its end.

        So a caller that calls again at once finds what the first call has changed.
        """
        self._is_closed = True
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def attach(self, task: asyncio.Future[Any], give_up: Callable[[], None] | None = None) -> None:
        """Name the task that does the work, for `cancel`.

        Args:
            task: The work, or what it waits for.
            give_up: Called `CANCEL_SECONDS` after a cancellation: the waiting caller need wait no longer.
        """
        if self.ended:
            return
        self._task, self._give_up = task, give_up
        if self.cancel_requested:
            self._stop()

    @property
    def work(self) -> tuple[asyncio.Future[Any], Callable[[], None] | None] | None:
        """What `attach` was called with last, while the run goes on."""
        return None if self._task is None else (self._task, self._give_up)

    def cancel(self) -> bool:
        """Ask the run to stop, from any thread. Returns False when it has ended already."""
        if self.ended:
            return False
        self.cancel_requested = True
        self._stop()
        return True

    def abandon(self) -> None:
        """Cancel the run, whose caller has left; with an idempotency key, a repeat may still want its answer."""
        if not self.has_key:
            self.cancel()

    def _stop(self) -> None:
        if self._task is not None:
            call_on(self._task.get_loop(), self._cancel_task, self._task)

    def _cancel_task(self, task: asyncio.Future[Any]) -> None:
        if not self.ended:
            task.cancel()
            if self._give_up is not None:
                task.get_loop().call_later(CANCEL_SECONDS, self._give_up)

    def track_background_work(self, work: asyncio.Future[Any]) -> None:
        """Note work that can't be stopped, such as a thread: the run's place is not free before it has ended."""
        self._work.append(work)
        work.add_done_callback(self._work.remove)  # it holds what the work returned

    def unfinished(self) -> list[asyncio.Future[Any]]:
        """Return the noted work that goes on."""
        return [work for work in self._work if not work.done()] if self._work else self._work

    def hold(self) -> Hold[Self]:
        """Return what keeps the run's result and events for a caller that waits for them, until it is released.

        Use it as ``with nexus.submit(invocation).hold() as run``: from before the run can end until everything is sent.
        """
        return Hold(self)

    def release(self) -> None:
        """Note that one less waits for it. For `Hold`."""
        self.followers -= 1
        if self._is_forgotten and not self.followers:
            self.forget()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, for at most ``timeout`` seconds. Returns whether it has."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self.done:
                    await self.changed()
        return self.done

    async def settled(self, timeout: float) -> None:
        """Wait until the run has ended or waits for an answer, for at most ``timeout`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not (self.done or (self.questions and self.status is RunStatus.WAITING)):
                    await self.changed()

    def forget_question(self, number: int) -> None:
        """Note that a question was closed: the run does not wait for it."""
        self.questions = tuple(question for question in self.questions if question.number != number)

    async def started_or_rejected(self) -> None:
        """Wait until the run has begun or has been refused, or was answered without either: it is `done` then."""
        while not self.done and (not self._steps or self._steps[0].is_terminal):
            await self.changed()

    async def outcome(self) -> Result:
        """Wait for the end and return the result.

        Raises:
            NexusError: What the run failed with.
        """
        with self.hold():
            await self.wait()
            if self.error is not None:
                error = self.error.copy()
                error.reply = await self.reply()
                raise error
            if self.result is None:
                raise RunNotFound(f"The result of run {self.id} is no longer stored.")
            return self.result

    async def reply(self) -> Any:
        """Return what event handlers put in the place of the run's error, or None. They get `REPLY_SECONDS`."""
        if not self._replies:
            return None
        await asyncio.wait(self._replies, timeout=REPLY_SECONDS)
        given = [reply.result() for reply in self._replies if reply.done() and not reply.cancelled()]
        return next((value for value in given if value is not None), None)

    @property
    def events(self) -> list[ChannelEvent]:
        """The run's events, oldest first, as far as they are kept; see `EVENTS_KEPT`."""
        return self.events_after(0)

    def events_after(self, number: int) -> list[ChannelEvent]:
        """Return the events with a higher number, oldest first, the last one of all when the run is `done`.

        What it costs grows with their count alone.
        """
        fresh: list[ChannelEvent] = []
        for kept in (self._steps, *self._output_events.values()):
            for event in reversed(kept):
                if event.number <= number:
                    break
                if self.done or not event.is_terminal:
                    fresh.append(event)
        fresh.sort(key=attrgetter("number"))
        return fresh

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

    @overload
    def follow(self, after: int = 0) -> AsyncGenerator[ChannelEvent, None]: ...

    @overload
    def follow(self, after: int = 0, *, heartbeat: float) -> AsyncGenerator[ChannelEvent | None, None]: ...

    async def follow(
        self, after: int = 0, *, heartbeat: float | None = None
    ) -> AsyncGenerator[ChannelEvent | None, None]:
        """Yield the run's events with a number above ``after``: past ones, then new ones, up to the last.

        Args:
            after: The number of the last event that the follower has.
            heartbeat: Seconds without an event after which None is yielded, for a sign of life to the follower.
        """
        with self.hold():
            while True:
                fresh = self.events_after(after)
                for event in fresh:
                    after = event.number
                    yield event
                if not fresh:
                    if self.done:
                        return
                    if not await self.changed(heartbeat):
                        yield None

    def bytes_kept(self) -> int:
        """Return about how many bytes `forget` would free."""
        steps = 0 if self.steps is None else self.steps.size
        if not self._output_events and self.result is None:
            return steps
        told = sum(len(kept) for kept in self._output_events.values()) * EVENT_BYTES
        own = self._output_events.get(WORKFLOW_EVENT, ())
        output = self.output_bytes if WORKFLOW_OUTPUT in self._output_events else 0
        result = 0 if self.result is None else len(self.result.json)
        return steps + told + sum(len(jsontext.encode(event.data)) for event in own) + output + result

    def forget_output(self) -> None:
        """Drop what the workflow said while it ran: progress, output, its own events."""
        self._output_events = {}

    def forget(self) -> None:
        """Drop everything but how it began, its steps and how it ended, as soon as no caller waits for it any more."""
        self._is_forgotten = True
        if self.followers:
            return
        self.result = None
        self.forget_output()
        self._steps = [event.without_result() for event in self._steps]  # copies: a handler may be about to read one

    def to_dict(self, *, with_result: bool = True) -> dict[str, Any]:
        """Return the run as channels show it: with the error, and unless ``with_result`` is false with the result.

        While it waits for answers, it is shown with its open questions in the place of the result.
        """
        result = self.result if with_result else None
        return shown_run(
            self.id, self.workflow, self.channel, self.status, self.started_at, self.finished_at,
            session_id=self.session_id, user_id=self.user_id,
            place=self.place,
            result={} if result is None else {"result": result.value} | result.flags(),
            error=problem_of(self.error, self._steps), questions=self.questions if with_result else (),
            basis=self.basis if with_result else {},
        )  # fmt: skip
