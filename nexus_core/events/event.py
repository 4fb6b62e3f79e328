"""Events: what happens to runs, workflows and plugins, in the order it happened.

`EventBus.publish` costs its caller one append. Handlers run apart from it, each in a separate task that takes the
events in order: a slow or raising handler delays and breaks nothing but itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from nexus_core import jsontext
from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.concurrency.threads import ENDS_PROCESS

if TYPE_CHECKING:
    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.errors import NexusError
    from nexus_core.types.result import Result

log = logging.getLogger(__name__)

WORKFLOW_QUEUED = "workflow.queued"
WORKFLOW_STARTED = "workflow.started"
WORKFLOW_PROGRESS = "workflow.progress"
WORKFLOW_OUTPUT = "workflow.output"
WORKFLOW_EVENT = "workflow.event"
WORKFLOW_QUESTION = "workflow.question"
WORKFLOW_ANSWERED = "workflow.answered"
WORKFLOW_BLOCKED = "workflow.blocked"
WORKFLOW_COMPLETED = "workflow.completed"
WORKFLOW_FAILED = "workflow.failed"
WORKFLOW_CANCELLED = "workflow.cancelled"
WORKFLOW_REGISTERED = "workflow.registered"
WORKFLOW_UNREGISTERED = "workflow.unregistered"
WORKFLOW_UNSERVED = "workflow.unserved"
SESSION_CREATED = "session.created"
SESSION_UPDATED = "session.updated"
SESSION_REMOVED = "session.removed"
SESSION_EXPIRED = "session.expired"
SESSION_NOTIFICATION = "session.notification"
EVENTS_MISSED = "events.missed"
CREDENTIAL_ENDED = "credential.ended"

EVENT_TYPES = {
    WORKFLOW_QUEUED: "A run waits for others of its key (`serial`; `data`: its `position`), or for a process.",
    WORKFLOW_STARTED: "A run has started.",
    WORKFLOW_PROGRESS: "A run reports its progress. `data`: `done`, `total` and `message`.",
    WORKFLOW_OUTPUT: "A run yields an item of its stream. `data`: `value`.",
    WORKFLOW_EVENT: "A run emits an event of the workflow's. `data`: `name` and `value`.",
    WORKFLOW_QUESTION: "A run waits for an answer. `data`: `number`, `question`, `schema`, `to`, `expires_at`.",
    WORKFLOW_ANSWERED: "A question was answered or has expired. `data`: its `number`, `status` and `answered_by`.",
    WORKFLOW_BLOCKED: "A run can't go on with the code of its workflow as it is now. Adds `error`, the reason.",
    WORKFLOW_COMPLETED: "A run has succeeded. Adds `duration`; handlers and followers of the run get `result`.",
    WORKFLOW_FAILED: "A run has failed, or its call was rejected. Adds `error` and `duration`.",
    WORKFLOW_CANCELLED: "A run was cancelled. Adds `error`.",
    WORKFLOW_REGISTERED: "A workflow was registered.",
    WORKFLOW_UNREGISTERED: "A workflow was unregistered.",
    WORKFLOW_UNSERVED: "No process can work on waiting durable runs of a workflow. `data`: how many `runs` wait.",
    SESSION_CREATED: "A session was created.",
    SESSION_UPDATED: "A session was updated. `data`: its `version`, and the names of `changed` members.",
    SESSION_REMOVED: "A session was deleted or got another id.",
    SESSION_EXPIRED: "A session has expired.",
    SESSION_NOTIFICATION: "An event handler notifies followers. `data`: `message`.",
    EVENTS_MISSED: "A follower has missed events. `data`: their `count`, or null if it is unknown.",
    CREDENTIAL_ENDED: "The caller's credential has ended, and its event stream with it. Adds `error`. In no log.",
}
"""The core's types of events, each with its meaning. Those of plugins are in `PluginSettings.event_types`."""

TERMINAL = frozenset({WORKFLOW_COMPLETED, WORKFLOW_FAILED, WORKFLOW_CANCELLED})
"""The types that end a run: exactly one of them is the run's last event."""

REPLY_SECONDS = 1.0
"""How long a caller waits for what handlers make of its error."""

HANDLER_BACKLOG = 10_000
"""Events that wait for one handler before the oldest are dropped (and counted)."""


@dataclass(slots=True)
class ChannelEvent:
    """One thing that happened.

    Attributes:
        type: One of `EVENT_TYPES`, such as ``workflow.progress``, or of a plugin's `PluginSettings.event_types`.
        workflow_name: The workflow concerned.
        channel: The channel it came through: ``api``, ``cli``, ``mcp``, ``python``; empty where none did.
        run_id: The run concerned, or empty.
        session_id: The session it belongs to, if any.
        user_id: The principal's id, if any.
        data: What the type adds. Progress: ``done``, ``total``, ``message``. Output: ``value``. A workflow's own
            event: ``name`` and ``value``.
        result: The result, on ``workflow.completed``.
        error: The error, on ``workflow.failed`` and ``workflow.cancelled``.
        duration: Seconds the run took, on a terminal event.
        number: Its place among the events of its run, from 1; 0 where it is of none. Set by the run.
        order: Its place among all events of this process, from 1. Set when published. Never sent to callers, which
            would learn how busy others are.
        time: Seconds since the epoch.
        owner: The `Principal.identity` that it concerns, or None where authentication is off. Never sent to callers.
        is_public: Whether every caller may see it, not only the one it concerns.
        replies: What handlers make of an error for its caller, while they are asked.
        id: Its place in the log that followers resume from; set by that log, see `nexus_core.events.log`.
    """

    type: str
    workflow_name: str = ""
    channel: str = ""
    run_id: str = ""
    session_id: str | None = None
    user_id: str | None = None
    data: dict[str, Any] | None = None
    result: Result | None = None
    error: NexusError | None = None
    duration: float | None = None
    number: int = 0
    time: float = field(default_factory=time.time)
    owner: str | None = None
    is_public: bool = False
    id: str = ""
    order: int = 0
    replies: list[asyncio.Future[Any]] | None = field(default=None, repr=False, compare=False)

    @property
    def is_terminal(self) -> bool:
        """Whether this event ends its run."""
        return self.type in TERMINAL

    def without_result(self) -> ChannelEvent:
        """Return the event as history keeps it."""
        return ChannelEvent(
            self.type, self.workflow_name, self.channel, self.run_id, self.session_id, self.user_id, self.data, None,
            self.error, self.duration, self.number, self.time, self.owner, self.is_public,
            self.id, self.order,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the event as channels send it: without empty members, the result as a JSON value."""
        members: dict[str, Any] = {"number": self.number} if self.number else {}
        members |= {"type": self.type, "time": self.time}
        for name in ("run_id", "channel", "session_id"):
            if value := getattr(self, name):
                members[name] = value
        if self.workflow_name:
            members["workflow"] = self.workflow_name
        if self.data is not None:
            members["data"] = self.data
        if self.result is not None:
            members |= {"result": self.result.value} | self.result.flags()
        if self.error is not None:
            members["error"] = self.error.problem()
        if self.duration is not None:
            members["duration"] = self.duration
        return members


Handler = Callable[[ChannelEvent], Any]
"""Takes each event, in order. Sync handlers run in a thread, so that they may block; async ones are awaited.

One with a ``method_for`` is asked for what takes an event; what that returns for a failed run is its caller's answer.
"""


class EventBus:
    """Numbers events and hands them to handlers (ordered, apart) and listeners (at once, must not block).

    Attributes:
        latest: The order of the latest event.
    """

    def __init__(self, threads: DaemonThreads) -> None:
        self._threads = threads
        self.latest = 0
        self._reports = RateLimitedLog(log)
        self._deliveries: list[_Delivery] = []
        self._listeners: tuple[Callable[[ChannelEvent], None], ...] = ()  # replaced when it changes: one may end itself

    def publish(self, event: ChannelEvent) -> None:
        """Number an event and pass it on. Call it on the event loop's thread; it never blocks and never raises."""
        event.order = self.latest = self.latest + 1
        for delivery in self._deliveries:
            delivery.put(event)
        for listener in self._listeners:
            try:
                listener(event)
            except (Exception, *ENDS_PROCESS) as exc:
                self._reports.failure(_name(listener), exc, "An event listener raised on %s", event.type)

    def add_handler(self, handler: Handler) -> None:
        """Deliver each event from now on to a handler."""
        self._deliveries.append(_Delivery(handler, self._threads))

    def remove_handler(self, handler: Handler) -> None:
        """Deliver no more events to a handler; one that is not there is not an error."""
        for delivery in [d for d in self._deliveries if d.handler == handler]:
            self._deliveries.remove(delivery)
            delivery.close()

    def listen(self, listener: Callable[[ChannelEvent], None]) -> Callable[[], None]:
        """Call a function with each event, inside `publish`. Returns the function that ends it."""
        self._listeners = (*self._listeners, listener)
        return lambda: self._unlisten(listener)

    def _unlisten(self, listener: Callable[[ChannelEvent], None]) -> None:
        self._listeners = tuple(each for each in self._listeners if each != listener)

    def handlers(self) -> list[tuple[str, int, int]]:
        """Return for each handler its name, how many events wait for it, and how many were dropped."""
        return [(_name(each.handler), each.backlog, each.dropped) for each in self._deliveries]

    async def close(self, limit: float = 1.0) -> None:
        """Let handlers take what waits for them, for at most ``limit`` seconds, then end them."""
        tasks = [d.task for d in self._deliveries if d.task is not None and not d.task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=limit)
        for delivery in self._deliveries:
            delivery.close()


def _name(handler: Handler) -> str:
    return str(getattr(handler, "__qualname__", type(handler).__qualname__))


class _Waiting(NamedTuple):
    event: ChannelEvent
    method: Handler
    reply: asyncio.Future[Any] | None

    def answer(self, value: Any) -> None:
        """Tell whoever waits for what the handler says."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(value)


class _Delivery:
    """One handler and the events that wait for it. Its task lives only while there are some."""

    def __init__(self, handler: Handler, threads: DaemonThreads) -> None:
        self.handler = handler
        self._threads = threads
        self._name = _name(handler)
        self._reports = RateLimitedLog(log)
        self._method_for = getattr(handler, "method_for", None)
        self._waiting: deque[_Waiting] = deque()
        self._at_work_since: float | None = None
        self.dropped = 0
        self.task: asyncio.Task[None] | None = None

    @property
    def backlog(self) -> int:
        return len(self._waiting)

    def put(self, event: ChannelEvent) -> None:
        method, reply = self.handler, None
        if self._method_for is not None:
            try:
                method = self._method_for(event)
            except (Exception, *ENDS_PROCESS) as exc:
                self._reports.failure("method_for", exc, "The event handler %s raised in method_for", self._name)
                return
            if method is None:
                return
            if event.type == WORKFLOW_FAILED and not self._is_behind():
                reply = asyncio.get_running_loop().create_future()
                event.replies = [*(event.replies or ()), reply]
        if len(self._waiting) >= HANDLER_BACKLOG:
            self._waiting.popleft().answer(None)
            self.dropped += 1
            if self.dropped == 1:
                log.warning("The event handler %s is too slow: its oldest events are dropped", self._name)
        self._waiting.append(_Waiting(event, method, reply))
        if not self._is_delivering():
            try:
                self.task = asyncio.get_running_loop().create_task(
                    self._deliver(),
                    name="nexus-event-handler",
                    context=Context(),  # it is part of no one's call
                )
            except RuntimeError:  # no loop runs yet: the events wait for the first one published on it
                return

    async def _deliver(self) -> None:
        while self._waiting:
            each = self._waiting.popleft()
            self._at_work_since, value = each.event.time, None
            try:
                value = await self._threads.call(each.method, each.event)
                if each.reply is not None and value is not None:
                    value = jsontext.plain(value)
            except Exception as exc:
                value = None
                self._reports.failure(
                    each.event.type, exc, "The event handler %s raised on %s", self._name, each.event.type
                )
            finally:
                self._at_work_since = None
                each.answer(value)

    def _is_behind(self) -> bool:
        """Whether what it works on, or has to begin with, happened so long ago that nobody should wait for it."""
        since = self._at_work_since or (self._waiting[0].event.time if self._waiting else None)
        return since is not None and time.time() - since > REPLY_SECONDS

    def _is_delivering(self) -> bool:
        return self.task is not None and not self.task.done() and not self.task.get_loop().is_closed()

    def close(self) -> None:
        while self._waiting:
            self._waiting.popleft().answer(None)
        if self.task is not None and self._is_delivering():
            self.task.cancel()
