"""The stages that trace calls: `Tracing` around each call, a `StageMarker` before each stage."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import short_id

from nexus_core import NexusError, Stage
from nexus_core.text import printable
from nexus_core.types.trace import TraceParent, current_trace, parse_traceparent
from nexus_tracing.traces import (
    LONGEST_TRACESTATE,
    PropagatedTrace,
    RecordedTrace,
    clean_attributes,
    mark_failed,
    remote_context,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from opentelemetry.context import Context

    from nexus_core import Interceptor, Invocation, Platform, Result
    from nexus_core.pipeline.stage import Call
    from nexus_tracing.settings import TracingSettings
    from nexus_tracing.span_provider import SpanProvider

ID_CHARACTERS = 200
EXECUTE = Stage.BREAKER + 9
"""After every stage."""

MARKED: dict[int, str] = {stage: stage.name.lower() for stage in Stage if stage > Stage.ADMIT}
"""The names of the spans of stages, as far as these are in the pipeline."""


class Tracing:
    """Decides whether a call is recorded, and makes a span with its outcome.

    A nested call follows the decision on its outer call. Otherwise the caller decides by its ``traceparent``, if
    that is honoured, else the ratio.

    Args:
        provider: Makes spans.
        ratio: The share of calls that are recorded.
        trusts_parent: Whether to honour the sampling decision of callers.
        propagates: Whether instrumented libraries propagate traces that are not recorded.
        random: Returns a number in [0, 1).
    """

    stage = Stage.OBSERVE - 10

    def __init__(
        self,
        provider: SpanProvider,
        *,
        ratio: float,
        trusts_parent: bool,
        propagates: bool,
        random: Any = random.random,
    ) -> None:
        self._provider = provider
        self._ratio = ratio
        self._trusts_parent = trusts_parent
        self._propagates = propagates
        self._random = random

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Process the call within a trace."""
        outer = current_trace.get()
        if outer is not None:
            if isinstance(outer, PropagatedTrace):
                return call_next(invocation)
            return self._recorded(invocation, call_next, None)
        parent, tracestate = self._sent(invocation)
        if not self.is_recorded(parent):
            return self._propagated(invocation, call_next, PropagatedTrace(parent, tracestate))
        context = self._provider.nothing() if parent is None else remote_context(parent, tracestate)
        return self._recorded(invocation, call_next, context)

    def is_recorded(self, parent: TraceParent | None) -> bool:
        """Decide whether to record a call, which may be part of a caller's trace."""
        if parent is not None and self._trusts_parent:
            return parent.is_sampled
        return self._ratio > 0 and self._random() < self._ratio

    def _sent(self, invocation: Invocation) -> tuple[TraceParent | None, str]:
        """Return the trace that a call is part of, and its ``tracestate``."""
        given = invocation.trace
        parent = parse_traceparent(given.get("traceparent", "")) if given else None
        if given is None or parent is None:
            return self._provider.embedding(), ""
        tracestate = given.get("tracestate", "")
        return parent, tracestate if len(tracestate) <= LONGEST_TRACESTATE else ""

    async def _propagated(self, invocation: Invocation, call_next: Call, trace: PropagatedTrace) -> Result:
        token = current_trace.set(trace)
        detach = self._provider.attach(trace.context()) if self._propagates else None
        try:
            return await call_next(invocation)
        finally:
            if detach is not None:
                detach()
            current_trace.reset(token)

    async def _recorded(self, invocation: Invocation, call_next: Call, parent: Context | None) -> Result:
        span, context, detach = self._provider.open(
            _name_of(invocation), parent, is_server=invocation.channel != "python"
        )
        trace = RecordedTrace(self._provider.tracer, span, context)
        token = current_trace.set(trace)
        try:
            result = await call_next(invocation)
        except NexusError as exc:
            span.set_attributes({"nexus.outcome": exc.outcome, "nexus.code": exc.code})
            if exc.status >= 500:
                mark_failed(span, exc.code)
            raise
        except asyncio.CancelledError:
            span.set_attribute("nexus.outcome", "cancelled")
            raise
        except BaseException as exc:  # a defect of a stage
            span.set_attributes({"nexus.outcome": "failed", "nexus.code": NexusError.code})
            mark_failed(span, type(exc).__name__)
            raise
        else:
            span.set_attribute("nexus.outcome", "completed")
            span.set_attributes({f"nexus.{name}": value for name, value in result.flags().items()})
            return result
        finally:
            trace.leave()
            span.set_attributes(_attributes(invocation))
            current_trace.reset(token)
            detach()
            span.end()


def _name_of(invocation: Invocation) -> str:
    return "unknown workflow" if invocation.workflow is None else f"workflow {invocation.workflow.name}"


def _attributes(invocation: Invocation) -> dict[str, str | bool | int | float]:
    """Return the attributes of a call at its end."""
    principal = invocation.principal
    known = {
        "nexus.workflow": invocation.name,
        "nexus.channel": invocation.channel,
        "nexus.run_id": invocation.run.id,
        "session.id": None if invocation.session_id is None else short_id(invocation.session_id),
        "user.id": None if principal is None else principal.user_id,
        "nexus.tenant_id": None if principal is None else principal.tenant_id,
        "client.address": invocation.client_address,
    }
    return clean_attributes({name: printable(value, ID_CHARACTERS) for name, value in known.items() if value})


class StageMarker:
    """Ends the span of the previous stage and starts its own. A call that is not recorded costs a look-up.

    Args:
        platform: The platform; a stage that is not in its pipeline has no span.
        stage: The stage.
        name: The name of the span.
    """

    def __init__(self, platform: Platform, stage: int, name: str) -> None:
        self.stage = stage - 1
        self._platform = platform
        self._marked = stage
        self._name = name
        self._is_used: bool | None = True if stage == EXECUTE else None

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Process the call."""
        trace = current_trace.get()
        if type(trace) is RecordedTrace and self._applies_to(invocation):
            trace.enter(self._name)
        return call_next(invocation)

    def _applies_to(self, invocation: Invocation) -> bool:
        if self._is_used is None:
            self._is_used = self._marked in self._platform.stages
        if self._marked == Stage.SESSION:
            return invocation.session_id is not None
        if self._marked == Stage.IDEMPOTENCY:
            return invocation.idempotency_key is not None
        if self._marked == Stage.SERIAL:
            return invocation.workflow is not None and invocation.workflow.serial is not None
        return self._is_used


def stages(platform: Platform, settings: TracingSettings, provider: SpanProvider) -> list[Interceptor]:
    """Return the stages that trace calls: `Tracing`, and a marker for each stage and for the execution after them."""
    tracing = Tracing(
        provider,
        ratio=settings.tracing_sample_ratio,
        trusts_parent=settings.tracing_trust_parent,
        propagates=bool(settings.tracing_instrument),
    )
    every = MARKED | {EXECUTE: "execute"}
    return [tracing, *(StageMarker(platform, stage, name) for stage, name in every.items())]
