"""The traces that running code may be part of: recorded, or only propagated."""

from __future__ import annotations

import secrets
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.span import TraceState

from nexus_core.text import printable
from nexus_core.types.trace import TraceParent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer


LONGEST_TRACESTATE = 512
"""Maximum characters of a ``tracestate``: the minimum that W3C Trace Context requires."""

VALUE_CHARACTERS = 500
"""Characters of an attribute's text, at most."""


class RecordedTrace:
    """A trace that is exported.

    Args:
        tracer: Makes spans.
        root: The span of the call.
        context: The context with that span.
    """

    __slots__ = ("_context", "_root", "_stage", "_tracer")

    def __init__(self, tracer: Tracer, root: Span, context: Context) -> None:
        self._tracer = tracer
        self._root = root
        self._context = context
        self._stage: Span | None = None

    @property
    def trace_id(self) -> str:
        """See `Trace`."""
        return f"{self._root.get_span_context().trace_id:032x}"

    @property
    def span_id(self) -> str:
        """See `Trace`."""
        return f"{self._here().span_id:016x}"

    def headers(self) -> dict[str, str]:
        """See `Trace`."""
        return headers_of(self._here())

    def _here(self) -> SpanContext:
        """Return the current span of the trace, which workflow code may have opened."""
        root, current = self._root.get_span_context(), get_current_span().get_span_context()
        return current if current.trace_id == root.trace_id else root

    def enter(self, stage: str) -> None:
        """Start the span of a stage: what happens from now on is part of it."""
        if self._stage is not None:
            self._stage.end()
        self._stage = self._tracer.start_span(stage, self._context)
        otel_context.attach(set_span_in_context(self._stage, self._context))  # detached with the span of the call

    def leave(self) -> None:
        """End the span of the last stage."""
        if self._stage is not None:
            self._stage.end()
            self._stage = None

    @contextmanager
    def span(self, name: str, attributes: Mapping[str, Any]) -> Iterator[None]:
        """See `Trace`."""
        span = self._tracer.start_span(name, attributes=clean_attributes(attributes))
        token = otel_context.attach(set_span_in_context(span))
        try:
            yield
        except BaseException as exc:
            mark_failed(span, type(exc).__name__)
            raise
        finally:
            otel_context.detach(token)
            span.end()


class PropagatedTrace:
    """A trace that is not recorded. It is propagated, so that no later service starts another.

    Args:
        parent: The caller's span, or None.
        tracestate: The caller's ``tracestate``.
    """

    __slots__ = ("_span_id", "_trace_id", "_tracestate", "has_parent")

    def __init__(self, parent: TraceParent | None, tracestate: str = "") -> None:
        self.has_parent = parent is not None
        self._trace_id, self._span_id = ("", "") if parent is None else (parent.trace_id, parent.span_id)
        self._tracestate = tracestate

    @property
    def trace_id(self) -> str:
        """See `Trace`."""
        if not self._trace_id:
            self._trace_id, self._span_id = secrets.token_hex(16), secrets.token_hex(8)
        return self._trace_id

    @property
    def span_id(self) -> str:
        """See `Trace`."""
        return self._span_id if self.trace_id else ""

    def headers(self) -> dict[str, str]:
        """See `Trace`."""
        found = {"traceparent": f"00-{self.trace_id}-{self.span_id}-00"}
        return found | ({"tracestate": self._tracestate} if self._tracestate else {})

    def span(self, name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """See `Trace`. It makes no span."""
        return _NOTHING

    def context(self) -> Context:
        """Return an OpenTelemetry context that propagates the trace."""
        return _context(TraceParent(self.trace_id, self.span_id, False), self._tracestate)


_NOTHING = nullcontext()


def remote_context(parent: TraceParent, tracestate: str) -> Context:
    """Return the context of a caller's span, for a call that is recorded whatever the caller's flag."""
    return _context(parent._replace(is_sampled=True), tracestate)


def _context(parent: TraceParent, tracestate: str) -> Context:
    state = TraceState.from_header([tracestate]) if tracestate else None
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else 0)
    span_context = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), True, flags, state)
    return set_span_in_context(NonRecordingSpan(span_context))


def headers_of(span: SpanContext) -> dict[str, str]:
    """Return the headers that propagate a span."""
    found = {"traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}
    return found | ({"tracestate": span.trace_state.to_header()} if span.trace_state else {})


def clean_attributes(attributes: Mapping[str, Any]) -> dict[str, str | bool | int | float]:
    """Return attributes as OpenTelemetry accepts them: numbers unchanged, everything else as bounded text."""
    return {
        str(name): value if isinstance(value, (bool, int, float)) else printable(str(value), VALUE_CHARACTERS)
        for name, value in attributes.items()
        if value is not None
    }


def mark_failed(span: Span, kind: str) -> None:
    """Mark a span as failed. Texts of exceptions are not exported: they may contain secrets."""
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute("error.type", kind)
