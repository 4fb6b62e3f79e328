"""The trace that running code is part of. A tracing plugin sets it; without one, everything here does nothing."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_TRACEPARENT = 200
"""Characters of a ``traceparent``, at most: versions to come may be longer than the 55 of this one."""


_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?")


class TraceParent(NamedTuple):
    """What a ``traceparent`` of W3C Trace Context says.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        is_sampled: Whether the caller keeps its part of the trace.
    """

    trace_id: str
    span_id: str
    is_sampled: bool


def parse_traceparent(text: str) -> TraceParent | None:
    """Return what a ``traceparent`` says; None if it is invalid and must be ignored."""
    found = _TRACEPARENT.fullmatch(text) if len(text) <= LONGEST_TRACEPARENT else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    if not (found[2].strip("0") and found[3].strip("0")):
        return None
    return TraceParent(found[2], found[3], bool(int(found[4], 16) & 1))


class Trace(Protocol):
    """One call's trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: Of the span that is open now: 16 hexadecimal digits.
    """

    @property
    def trace_id(self) -> str:
        """See the class."""

    @property
    def span_id(self) -> str:
        """See the class."""

    def span(self, name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Return what opens a span inside the one that is open, and closes it."""

    def headers(self) -> dict[str, str]:
        """Return the headers that hand the trace on to another program: ``traceparent``, ``tracestate``."""


current_trace: ContextVar[Trace | None] = ContextVar("nexus_current_trace", default=None)
"""The trace that the running code is part of, in its tasks and threads too."""

_NO_SPAN = nullcontext()


def span(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """Return a context manager that makes a span of what runs inside it, where calls are traced.

    Args:
        name: What is done: one of a few names, without ids in it.
        attributes: What is known of it: text, numbers, booleans.
    """
    trace = current_trace.get()
    return _NO_SPAN if trace is None else trace.span(name, attributes)


def trace_headers() -> dict[str, str]:
    """Return the headers that a call to another program should have; none where calls are not traced."""
    trace = current_trace.get()
    return {} if trace is None else trace.headers()
