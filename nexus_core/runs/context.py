"""`Context`: what a workflow may know about its own run, and say while it runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import math
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core import jsontext
from nexus_core.concurrency.threads import call_on, is_async, is_current_loop
from nexus_core.errors import WorkflowError
from nexus_core.events.event import WORKFLOW_EVENT, WORKFLOW_OUTPUT, WORKFLOW_PROGRESS
from nexus_core.runs.asking import NO_DEFAULT, Plan
from nexus_core.runs.steps import (
    BACKOFF_SECONDS,
    NAME_CHARACTERS,
    Recording,
    StepPlan,
    StepRunner,
    Steps,
    check_seconds,
    refuse_loop,
)
from nexus_core.text import printable
from nexus_core.types.trace import span, trace_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from contextlib import AbstractContextManager

    from nexus_core.runs.asking import Asked, QuestionDesk
    from nexus_core.runs.journal import JournalMismatch
    from nexus_core.runs.run import Run
    from nexus_core.state.sessions import Session
    from nexus_core.types.principal import Principal

log = logging.getLogger("nexus.workflow")

Value = TypeVar("Value")

MESSAGE_CHARACTERS = 500
EVENT_BYTES = 64 * 1024
"""The longest JSON text of one event of a workflow's own: a run keeps its latest events in memory."""

current_run: ContextVar[Run | None] = ContextVar("nexus_current_run", default=None)
"""The run that the running code is part of, in its tasks and threads too."""


SLEEP = StepPlan("sleep", time.sleep, 0, 0.0, None)


class _RunLogger(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run to what the caller adds, which the base class would drop."""
        return msg, {**kwargs, "extra": {**(self.extra or {}), **(kwargs.get("extra") or {})}}


class Context:
    """Given to a workflow that has a parameter annotated ``Context``. Every method may be called from any thread.

    Attributes:
        run: The run.
        principal: The caller, or None where authentication is off.
        session: The session the caller named, or None.
        deadline: The value of `time.monotonic` at which the run times out, or None. While the run waits for an answer,
            time does not count: afterwards it is so much later.
        service: Returns what a plugin has for workflows, by name, such as ``db_pool``; see `Nexus.service`.
        is_durable: Whether the run goes on at another process where this one dies.
    """

    is_durable = False
    mismatch: JournalMismatch | None = None  # of a durable run: its code has changed, it goes on elsewhere

    __slots__ = (
        "_desk", "_loop", "_step_runner", "deadline", "limit_moved", "max_result_bytes", "principal", "run", "service",
        "session",
    )  # fmt: skip

    def __init__(
        self,
        run: Run,
        principal: Principal | None,
        session: Session | None,
        loop: asyncio.AbstractEventLoop,
        deadline: float | None,
        max_result_bytes: int,
        service: Callable[[str], Any],
        step_runner: StepRunner,
        desk: QuestionDesk,
    ) -> None:
        self.run = run
        self.principal = principal
        self.session = session
        self._loop = loop
        self.deadline = deadline
        self.max_result_bytes = max_result_bytes
        self.service = service
        self._step_runner = step_runner
        self._desk = desk
        self.limit_moved: Callable[[], None] | None = None

    @property
    def run_id(self) -> str:
        """The id of this run."""
        return self.run.id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self.run.workflow

    @property
    def channel(self) -> str:
        """The channel the call came through."""
        return self.run.channel

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, or None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether the run shall stop. Sync code in a long loop asks this; async code is cancelled anyway."""
        return self.run.cancel_requested or self.run.ended or self.run.is_left

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry ``run_id`` and ``workflow``."""
        return _RunLogger(log, {"run_id": self.run.id, "workflow": self.run.workflow})

    def bind(self, function: Callable[..., Value]) -> Callable[..., Value]:
        """Return a function that belongs to this run wherever it is called: in threads and executors of your own.

        Its log records have the run's id, its spans are part of the call's trace.

        Example:
            ```python
            with ThreadPoolExecutor() as pool:
                return list(pool.map(context.bind(load), rows))
            ```
        """
        own = contextvars.copy_context()

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Value:
            return own.copy().run(function, *args, **kwargs)

        return call

    def span(self, name: str, **attributes: Any) -> AbstractContextManager[Any]:
        """Return a context manager that makes a span of what runs inside it, where calls are traced."""
        return span(name, **attributes)

    def trace_headers(self) -> dict[str, str]:
        """Return the headers that calls to other programs should have, so that they join the trace; or none."""
        return trace_headers()

    async def step(
        self, name: str, fn: Callable[..., Any], /, *args: Any, retries: int = 0, backoff: float = BACKOFF_SECONDS,
        timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """Call a function as a step of the run, and return what it returns.

        Each attempt is recorded: who may see the run sees its steps. A sync function runs in a thread, one of
        ``workflow_threads``. What the function does should bear repetition: an attempt that has failed, or has taken
        too long, may have done a part of it.

        Args:
            name: The step's name, of at most 128 printable characters.
            fn: The function, sync or async.
            *args: Its arguments.
            retries: How often it is called again when it raises an exception, but not when it is cancelled.
            backoff: Seconds before the first repetition, twice as many before each further one, 60 at most; of these,
                a random part between half and all. There is no repetition that would begin after the run's deadline.
            timeout: Seconds that an attempt may take. None for no limit but the run's.

        Raises:
            StepTimeout: The last attempt took longer than ``timeout``.
            TypeError, ValueError: An argument is invalid; the message names it.
            Exception: What the last attempt raised.
        """
        return await self._steps().call(StepPlan(name, fn, retries, backoff, timeout), fn, args)

    def step_sync(
        self, name: str, fn: Callable[..., Any], /, *args: Any, retries: int = 0, backoff: float = BACKOFF_SECONDS,
        timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """Do what `step` does in a sync workflow, and wait for it.

        A sync function runs in the calling thread; with a ``timeout``, in another one, which goes on after it. An async
        function runs on the platform's event loop.

        Raises:
            RunCancelled: The run was cancelled or has timed out. It is raised once; later steps, of cleaning up, run.
            RuntimeError: It was called on the event loop.
            StepTimeout, TypeError, ValueError, Exception: See `step`.
        """
        refuse_loop(self._loop, "step")
        return self._steps().call_in_thread(StepPlan(name, fn, retries, backoff, timeout), fn, args)

    async def sleep(self, seconds: float) -> None:
        """Sleep, as a step with the name ``sleep``.

        Raises:
            TypeError, ValueError: ``seconds`` is no finite number of 0 or more.
        """
        check_seconds("seconds", seconds)
        await self._steps().call(SLEEP, asyncio.sleep, (seconds,))

    def sleep_sync(self, seconds: float) -> None:
        """Sleep in a sync workflow, as a step with the name ``sleep``. It ends when the run is cancelled.

        Raises:
            RunCancelled: See `step_sync`.
            RuntimeError: It was called on the event loop.
            TypeError, ValueError: ``seconds`` is no finite number of 0 or more.
        """
        check_seconds("seconds", seconds)
        refuse_loop(self._loop, "sleep")
        steps = self._steps()
        steps.call_in_thread(SLEEP, steps.sleep, (seconds,))

    async def in_thread(self, fn: Callable[..., Value], /, *args: Any) -> Value:
        """Call a sync function in a thread, one of ``workflow_threads``, as a step with the function's name.

        In place of `asyncio.to_thread`, whose threads are few and unknown to the platform: while the thread goes on
        after the run was cancelled, its place is not free; ``context.cancelled`` tells the function to stop.

        Raises:
            TypeError: ``fn`` is no sync function.
            Exception: What the function raised.
        """
        if is_async(fn):
            raise TypeError("fn must be a sync function: await an async one, or call it by context.step")
        name = printable(getattr(fn, "__name__", "") or type(fn).__name__, NAME_CHARACTERS)
        value: Value = await self._steps().call(StepPlan(name, fn, 0, 0.0, None), fn, args)
        return value

    def recording(self, name: str, attempt: int = 1) -> Recording:
        """Return a context manager that records its block as a step, for adapters whose workflows have parts.

        Set ``size`` on what it gives to the bytes of the result as JSON text, if they are known.
        """
        return self._steps().recording(printable(name, NAME_CHARACTERS), attempt)

    async def checkpoint(
        self, name: str, work: Callable[[], Awaitable[object]], save: Callable[[], Any], restore: Callable[[Any], None]
    ) -> None:
        """Do a part of the work as a step, for adapters whose workflows have parts.

        In a durable run that is worked on again, a part that was done is restored and not done again. All attempts
        must do the same parts in the same order, as far as one began while another was at work too.

        Args:
            name: The part's name.
            work: Does it.
            save: Returns what it has done, once it is. If that is not exactly what is read from its JSON text again,
                as a tuple is not, the part is done again at each attempt.
            restore: Takes what ``save`` has returned at an earlier attempt, in the place of ``work``.
        """
        with self.recording(name):
            await work()

    async def ask(
        self, question: str, schema: Any = str, *, to: str = "caller", timeout: float | None = None,
        default: Any = NO_DEFAULT, details: Mapping[str, Any] | None = None,
        notify: Callable[[Asked], Any] | None = None,
    ) -> Any:  # fmt: skip
        """Ask a user a question, wait for the answer and return it. It can be answered on every channel.

        Meanwhile the run's status is ``waiting``. It takes no place among the running ones, and the time does not count
        for its time limit.

        Args:
            question: The question, of at most 2000 characters.
            schema: What answers look like: a type hint or a JSON Schema. What does not fit it is refused.
            to: Who may answer: ``caller``, the caller of the run; ``user:ID``, a user; ``permission:NAME``, everybody
                with a permission. Only who is of the caller's tenant; where authentication is off, everybody.
            timeout: Seconds after which it expires. None for no limit.
            default: What is returned then. Without a default, `QuestionExpired` is raised.
            details: What the question is about, shown to who may answer: an object with a JSON form.
            notify: Called, or awaited, with what was asked, once it is stored: it may mail the link of the question to
                who shall answer (`Asked.link`). It runs on the event loop, and is cancelled when the question is
                closed.

        Example:
            ```python
            if not await context.ask(f"Refund {amount} EUR?", bool, to="permission:refunds.approve", timeout=86_400):
                raise WorkflowError("The refund was refused.")
            ```

        Raises:
            QuestionExpired: It was not answered in time.
            TypeError, ValueError, ConfigurationError: An argument is invalid; the message names it.
            ValidationError: The answer fits the schema, but the type does not take it.
        """
        plan = Plan(question, schema, to, timeout, default, details, notify)
        if not is_current_loop(self._loop):  # one of the workflow's own, in a thread
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.ask_planned(plan), self._loop))
        return await self.ask_planned(plan)

    def ask_sync(
        self, question: str, schema: Any = str, *, to: str = "caller", timeout: float | None = None,
        default: Any = NO_DEFAULT, details: Mapping[str, Any] | None = None,
        notify: Callable[[Asked], Any] | None = None,
    ) -> Any:  # fmt: skip
        """Do what `ask` does in a sync workflow. Meanwhile it keeps its thread, one of ``workflow_threads``.

        Raises:
            RunCancelled: The run was cancelled.
            RuntimeError: It was called on the event loop.
            QuestionExpired, TypeError, ValueError, ConfigurationError, ValidationError: See `ask`.
        """
        refuse_loop(self._loop, "ask")
        return self._steps().wait(self.ask_planned(Plan(question, schema, to, timeout, default, details, notify)))

    async def ask_planned(self, plan: Plan) -> Any:
        """Ask what a plan says, on the event loop; see `ask`."""
        return await self._desk.ask(plan, self.run, self.principal, self.prolong)

    def prolong(self, seconds: float) -> None:
        """Note that the run has waited for an answer: its time limit is so much later."""
        if self.deadline is not None:
            self.deadline += seconds
            if self.limit_moved is not None:
                self.limit_moved()

    def _steps(self) -> Steps:
        return Steps(self._step_runner, self.run, self._loop, self.deadline)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report to followers how far the run is: an event on the API, a progress bar, an MCP progress notification.

        Args:
            done: How much is done. It should grow from call to call.
            total: How much there is to do, if known.
            message: What is being done, for people: one line, of which `MESSAGE_CHARACTERS` are shown.

        Raises:
            TypeError, ValueError: ``done`` or ``total`` is not a finite number.
        """
        told = {"done": _finite(done), "total": None if total is None else _finite(total)}
        self._publish(WORKFLOW_PROGRESS, told | {"message": printable(str(message), MESSAGE_CHARACTERS)})

    def emit(self, name: str, value: Any = None) -> None:
        """Send followers an event of the workflow's own.

        Args:
            name: What happened, in the workflow's own words.
            value: Anything that has a JSON form, of at most `EVENT_BYTES`.

        Raises:
            TypeError, ValueError: ``value`` has no JSON form, or a longer one.
        """
        text = jsontext.encode(value)
        if len(text) > EVENT_BYTES:
            raise ValueError(f"an event has {len(text)} bytes, and at most {EVENT_BYTES} are sent: return large values")
        self._publish(WORKFLOW_EVENT, {"name": printable(str(name)), "value": jsontext.parse_trusted(text)})

    def output(self, value: Any) -> bytes:
        """Send followers one item of a streamed result, and return its JSON text.

        Raises:
            TypeError, ValueError: ``value`` has no JSON form.
            WorkflowError: The stream has grown past ``max_result_bytes``.
        """
        text = jsontext.encode(value)
        if self.run.ended:  # a thread that goes on after its time limit: nobody listens
            return text
        self.run.output_bytes += len(text) + 1
        if self.run.output_bytes > self.max_result_bytes:
            raise WorkflowError(f"The result is larger than max_result_bytes ({self.max_result_bytes}).")
        self._publish(WORKFLOW_OUTPUT, {"value": jsontext.parse_trusted(text)})
        return text

    def catch_up(self) -> None:
        """Wait, in a thread, until the event loop has published what was said so far."""
        if not is_current_loop(self._loop) and not self._loop.is_closed():
            published = threading.Event()
            call_on(self._loop, published.set)
            while not published.wait(1.0) and not self._loop.is_closed():
                pass

    def _publish(self, type: str, data: dict[str, Any]) -> None:
        call_on(self._loop, self.run.publish, type, data)


def _finite(number: float) -> float:
    known = number if isinstance(number, (int, float)) else float(number)  # numpy's, decimals, fractions
    if not math.isfinite(known):
        raise ValueError(f"progress must be a finite number, not {known}")
    return known
