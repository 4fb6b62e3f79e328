"""`SpanProvider`: makes the spans of one platform and exports them. It shares nothing with other platforms."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from nexus_toolkit.telemetry import TelemetryCollector
from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, SpanKind, get_current_span, set_span_in_context

from nexus_core.types.trace import TraceParent
from nexus_tracing.instrumentation import Instrumentation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan

    from nexus_tracing.settings import TracingSettings

log = logging.getLogger(__name__)

QUEUE_SIZE = 8192
"""Spans that wait to be exported; further ones are dropped."""

BATCH_SIZE = 512
"""Spans in one request, at most."""

SEND_SECONDS = 5.0
"""Time limit of a request."""

LAST_SECONDS = 1.5
"""Time limit of the last export, at shutdown."""


class SpanProvider:
    """Makes spans, from one start of a platform to its stop.

    Args:
        settings: The options.

    Attributes:
        tracer: The OpenTelemetry tracer.

    Raises:
        ConfigurationError: ``tracing_endpoint`` is not an HTTP URL, or an instrumentation is not installed.
    """

    def __init__(self, settings: TracingSettings) -> None:
        self._exporter = OtlpSpanExporter(
            TelemetryCollector(settings.tracing_endpoint, "/v1/traces", "tracing_endpoint", settings.tracing_token)
        )
        self._tracers = TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=_resource(), shutdown_on_exit=False)
        self._instrumentation = Instrumentation(settings.tracing_instrument, self._tracers)
        self._tracers.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=QUEUE_SIZE,
                max_export_batch_size=BATCH_SIZE,
                schedule_delay_millis=settings.tracing_push_interval * 1000,
            )
        )
        self.tracer = self._tracers.get_tracer("nexus")

    def stop(self) -> None:
        """Export what is queued, for at most `LAST_SECONDS`. It blocks: call it in a thread."""
        self._instrumentation.stop()
        self._exporter.end_by(time.monotonic() + LAST_SECONDS)
        ending = threading.Thread(target=self._tracers.shutdown, name="nexus-tracing-end", daemon=True)
        ending.start()
        ending.join(LAST_SECONDS)  # a request under way may take longer: it is abandoned

    def open(self, name: str, parent: Context | None, *, is_server: bool) -> tuple[Span, Context, Callable[[], None]]:
        """Start a span and make it the current one.

        Args:
            name: The name of the span.
            parent: The context of the parent span; None for the current context.
            is_server: Whether the span handles a call from outside of the process.

        Returns:
            The span, the context with it, and a function that restores the context before.
        """
        span = self.tracer.start_span(name, parent, SpanKind.SERVER if is_server else SpanKind.INTERNAL)
        context = set_span_in_context(span)
        return span, context, self.attach(context)

    def attach(self, context: Context) -> Callable[[], None]:
        """Make a context the current one, and return a function that restores the one before."""
        token = otel_context.attach(context)
        return lambda: otel_context.detach(token)

    def embedding(self) -> TraceParent | None:
        """Return the current span of the embedding program, such as a web framework, or None."""
        found = get_current_span().get_span_context()
        if not found.is_valid:
            return None
        return TraceParent(f"{found.trace_id:032x}", f"{found.span_id:016x}", found.trace_flags.sampled)

    def nothing(self) -> Context:
        """Return an empty context: a call that starts a new trace, whichever span is current."""
        return otel_context.Context()


def _resource() -> Resource:
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        return resource.merge(Resource({"service.name": "nexus"}))
    return resource


class OtlpSpanExporter(SpanExporter):
    """Exports spans by OTLP over HTTP. It does not retry: an unavailable collector must not delay later spans."""

    def __init__(self, collector: TelemetryCollector) -> None:
        self._collector = collector
        self._end: float | None = None

    def end_by(self, end: float) -> None:
        """Set the deadline of all further exports, on the clock of `time.monotonic`."""
        self._end = end

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans to the collector."""
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        seconds = SEND_SECONDS if self._end is None else min(SEND_SECONDS, self._end - time.monotonic())
        message: Any = encode_spans(spans)
        if seconds > 0 and self._collector.send(message.SerializeToString(), seconds):
            return SpanExportResult.SUCCESS
        if self._end is not None:
            self._end = 0.0  # no second attempt before the deadline
        return SpanExportResult.FAILURE
