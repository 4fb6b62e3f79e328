"""`Context`: what a workflow may know about its own run, and say while it runs."""

from __future__ import annotations

import contextvars
import functools
import logging
import math
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core import jsontext
from nexus_core.concurrency.threads import call_on, is_current_loop
from nexus_core.errors import WorkflowError
from nexus_core.events.event import WORKFLOW_EVENT, WORKFLOW_OUTPUT, WORKFLOW_PROGRESS
from nexus_core.text import printable
from nexus_core.types.trace import span, trace_headers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, MutableMapping
    from contextlib import AbstractContextManager

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
        deadline: The value of `time.monotonic` at which the run times out, or None.
        service: Returns what a plugin has for workflows, by name, such as ``db_pool``; see `Nexus.service`.
    """

    __slots__ = ("_loop", "deadline", "max_result_bytes", "principal", "run", "service", "session")

    def __init__(
        self,
        run: Run,
        principal: Principal | None,
        session: Session | None,
        loop: asyncio.AbstractEventLoop,
        deadline: float | None,
        max_result_bytes: int,
        service: Callable[[str], Any],
    ) -> None:
        self.run = run
        self.principal = principal
        self.session = session
        self._loop = loop
        self.deadline = deadline
        self.max_result_bytes = max_result_bytes
        self.service = service

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
        return self.run.cancel_requested or self.run.ended

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
