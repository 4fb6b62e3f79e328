"""The stages that trace calls: `Tracing` around each call, a `StageMark` in front of each stage."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import short_id

from nexus_core import NexusError, Stage
from nexus_core.text import printable
from nexus_core.types.trace import TraceParent, current_trace, parse_traceparent
from nexus_tracing.traces import LONGEST_TRACESTATE, KeptTrace, PassedTrace, clean, failed, remote

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from opentelemetry.context import Context

    from nexus_core import Invocation, Nexus, Result
    from nexus_core.pipeline.stage import Call
    from nexus_tracing.provider import Provider

ID_CHARACTERS = 200
EXECUTE = Stage.BREAKER + 9
"""Behind every stage."""

MARKED = {
    stage: stage.name.lower()
    for stage in Stage
    if stage > Stage.ADMIT
}  # fmt: skip
"""The stages that are spans where they are in the pipeline, and the spans' names."""


class Tracing:
    """Decides whether a call is traced, and makes it a span with what became of it.

    A call that is part of one that is traced, or is not, does likewise. Otherwise the caller decides by its
    ``traceparent``, where it is trusted to, or the ratio does.

    Args:
        provider: Makes spans.
        ratio: The part of the calls that is traced.
        trusts_parent: Whether callers decide.
        hands_on: Whether instrumented libraries shall know of traces that are not kept.
        random: Returns a number from 0 to below 1.
    """

    stage = Stage.OBSERVE - 10

    def __init__(
        self, provider: Provider, *, ratio: float, trusts_parent: bool, hands_on: bool, random: Any = random.random
    ) -> None:
        self._provider = provider
        self._ratio = ratio
        self._trusts_parent = trusts_parent
        self._hands_on = hands_on
        self._random = random

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Pass the call on, in a trace."""
        outer = current_trace.get()
        if outer is not None:
            if isinstance(outer, PassedTrace):
                return call_next(invocation)
            return self._kept(invocation, call_next, None)
        parent, tracestate = self._sent(invocation)
        if parent is not None and self._trusts_parent:
            is_kept = parent.is_sampled
        else:
            is_kept = self._ratio > 0 and self._random() < self._ratio
        if not is_kept:
            return self._passed(invocation, call_next, PassedTrace(parent, tracestate))
        context = self._provider.nothing() if parent is None else remote(parent, tracestate)
        return self._kept(invocation, call_next, context)

    def _sent(self, invocation: Invocation) -> tuple[TraceParent | None, str]:
        """Return the trace that a call is part of, and its ``tracestate``, which means nothing without it."""
        given = invocation.trace
        parent = parse_traceparent(given.get("traceparent", "")) if given else None
        if given is None or parent is None:
            return self._provider.embedding(), ""
        tracestate = given.get("tracestate", "")
        return parent, tracestate if len(tracestate) <= LONGEST_TRACESTATE else ""

    async def _passed(self, invocation: Invocation, call_next: Call, trace: PassedTrace) -> Result:
        token = current_trace.set(trace)
        detach = self._provider.attach(trace.context()) if self._hands_on else None
        try:
            return await call_next(invocation)
        finally:
            if detach is not None:
                detach()
            current_trace.reset(token)

    async def _kept(self, invocation: Invocation, call_next: Call, parent: Context | None) -> Result:
        span, context, detach = self._provider.open(
            _name_of(invocation), parent, is_server=invocation.channel != "python"
        )
        trace = KeptTrace(self._provider.tracer, span, context)
        token = current_trace.set(trace)
        try:
            result = await call_next(invocation)
        except NexusError as exc:
            span.set_attributes({"nexus.outcome": exc.outcome, "nexus.code": exc.code})
            if exc.status >= 500:
                failed(span, exc.code)
            raise
        except asyncio.CancelledError:
            span.set_attribute("nexus.outcome", "cancelled")
            raise
        except BaseException as exc:  # a stage's own mistake
            span.set_attributes({"nexus.outcome": "failed", "nexus.code": NexusError.code})
            failed(span, type(exc).__name__)
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
    """Return what is known of a call at its end."""
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
    return clean({name: printable(value, ID_CHARACTERS) for name, value in known.items() if value})


class StageMark:
    """Ends the span of the stage before, and begins that of its own. Costs nothing to speak of where a call has none.

    Args:
        nexus: The platform: a stage that is not in its pipeline makes no span.
        stage: The stage.
        name: The span's name.
    """

    def __init__(self, nexus: Nexus, stage: int, name: str) -> None:
        self.stage = stage - 1
        self._nexus = nexus
        self._marked = stage
        self._name = name
        self._is_used: bool | None = True if stage == EXECUTE else None

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Pass the call on."""
        trace = current_trace.get()
        if type(trace) is KeptTrace and self._concerns(invocation):
            trace.enter(self._name)
        return call_next(invocation)

    def _concerns(self, invocation: Invocation) -> bool:
        if self._is_used is None:
            self._is_used = self._marked in self._nexus.stages
        if self._marked == Stage.SESSION:
            return invocation.session_id is not None
        if self._marked == Stage.IDEMPOTENCY:
            return invocation.idempotency_key is not None
        return self._is_used


def marks(nexus: Nexus) -> list[StageMark]:
    """Return a mark for each stage, and one for the execution behind them."""
    return [*(StageMark(nexus, stage, name) for stage, name in MARKED.items()), StageMark(nexus, EXECUTE, "execute")]
