"""`Provider`: makes the spans of one platform, and sends them. Nothing of it is shared with other platforms."""

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
    from opentelemetry.trace import Tracer

    from nexus_tracing.settings import TracingSettings

log = logging.getLogger(__name__)

WAITING = 8192
"""Spans that wait to be sent; what comes then is dropped."""

AT_ONCE = 512
"""Spans that are sent at once, at most."""

SEND_SECONDS = 5.0
"""How long the collector may take."""

LAST_SECONDS = 1.5
"""How long the end waits for what is still to be sent."""


class Provider:
    """Makes spans.

    Args:
        settings: The options.
    """

    def __init__(self, settings: TracingSettings) -> None:
        self._settings = settings
        self.tracer: Tracer
        self._exporter: CollectorExporter
        self._tracers: TracerProvider | None = None
        self._instrumentation = Instrumentation(settings.tracing_instrument)

    def start(self) -> None:
        """Begin.

        Raises:
            ConfigurationError: The collector's address is none, or an instrumentation is not installed.
        """
        token = self._settings.tracing_token
        collector = TelemetryCollector(
            self._settings.tracing_endpoint,
            "/v1/traces",
            "tracing_endpoint",
            None if token is None else token.get_secret_value(),
        )
        self._exporter = CollectorExporter(collector)
        tracers = TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=_resource(), shutdown_on_exit=False)
        self._instrumentation.start(tracers)
        self._tracers = tracers
        tracers.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=WAITING,
                max_export_batch_size=AT_ONCE,
                schedule_delay_millis=self._settings.tracing_push_interval * 1000,
            )
        )
        self.tracer = tracers.get_tracer("nexus")

    def stop(self) -> None:
        """Send what waits, for at most `LAST_SECONDS`, and end. Call it in a thread."""
        tracers, self._tracers = self._tracers, None
        if tracers is not None:
            self._instrumentation.stop()
            self._exporter.end_by(time.monotonic() + LAST_SECONDS)
            ending = threading.Thread(target=tracers.shutdown, name="nexus-tracing-end", daemon=True)
            ending.start()
            ending.join(LAST_SECONDS)  # what is being sent just now may take longer: it is left behind

    def open(self, name: str, parent: Context | None, *, is_server: bool) -> tuple[Span, Context, Callable[[], None]]:
        """Begin a span and make it the current one.

        Args:
            name: Its name.
            parent: The context of its parent; None for the current one.
            is_server: Whether it answers a call from outside.

        Returns:
            The span, the context that it is the current one of, and what undoes that.
        """
        span = self.tracer.start_span(name, parent, SpanKind.SERVER if is_server else SpanKind.INTERNAL)
        context = set_span_in_context(span)
        return span, context, self.attach(context)

    def attach(self, context: Context) -> Callable[[], None]:
        """Make a context the current one, and return what undoes that."""
        token = otel_context.attach(context)
        return lambda: otel_context.detach(token)

    def embedding(self) -> TraceParent | None:
        """Return the span that an embedding program has open, if any: a web framework's, perhaps."""
        found = get_current_span().get_span_context()
        if not found.is_valid:
            return None
        return TraceParent(f"{found.trace_id:032x}", f"{found.span_id:016x}", found.trace_flags.sampled)

    def nothing(self) -> Context:
        """Return the context of a call that begins a trace, whatever is open around it."""
        return otel_context.Context()


def _resource() -> Resource:
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        return resource.merge(Resource({"service.name": "nexus"}))
    return resource


class CollectorExporter(SpanExporter):
    """Sends spans. One try each: the collector that is away now must not hold up what comes later."""

    def __init__(self, collector: TelemetryCollector) -> None:
        self._collector = collector
        self._end: float | None = None

    def end_by(self, end: float) -> None:
        """Take no longer than until then, as `time.monotonic` tells it."""
        self._end = end

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans to the collector."""
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        seconds = SEND_SECONDS if self._end is None else min(SEND_SECONDS, self._end - time.monotonic())
        message: Any = encode_spans(spans)
        if seconds > 0 and self._collector.send(message.SerializeToString(), seconds):
            return SpanExportResult.SUCCESS
        if self._end is not None:
            self._end = 0.0  # what is away now won't be back in time
        return SpanExportResult.FAILURE
