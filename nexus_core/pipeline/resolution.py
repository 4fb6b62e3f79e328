"""The stage that finds the workflow and makes its parameters out of the raw ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.concurrency.guarded import OwnTaskLimit, TimeLimitPassed
from nexus_core.errors import MalformedRequest, NexusError, WorkflowTimeout
from nexus_core.pipeline.execution import failed
from nexus_core.pipeline.resolvers import fitting, outcome, raw_parameters
from nexus_core.pipeline.stage import Call, Stage
from nexus_core.types.parameter_source import ParameterSource
from nexus_core.workflows.registry import unknown_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.concurrency.timers import Timers
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.pipeline.resolvers import ParameterResolver
    from nexus_core.types.result import Result
    from nexus_core.workflows.workflow import Workflow


class Resolution:
    """Finds the workflow and makes its parameters out of the raw ones."""

    stage = Stage.RESOLVE

    def __init__(
        self,
        resolvers: Sequence[ParameterResolver],
        sources: Mapping[str, ParameterSource],
        threads: DaemonThreads,
        timers: Timers,
        limit: Callable[..., float | None],
    ) -> None:
        self._resolvers = resolvers
        self._sources = sources
        self._threads = threads
        self._timers = timers
        self._limit = limit

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        """Put parameters that fit the workflow's schema into the invocation."""
        workflow = invocation.workflow
        if workflow is None:
            raise unknown_workflow(invocation.name)
        params = invocation.params
        if type(params) is not dict:
            if params is not None:
                raise MalformedRequest(f"The parameters must be a JSON object, not {jsontext.type_name(params)}.")
            params = {}
        if invocation.source is not None:
            if workflow.reads_decimals and params:
                params = workflow.with_decimals(params, jsontext.exactly(*invocation.source))
            invocation.source = None
        if self._resolvers:
            params = await self._resolved(invocation, params, workflow)
        invocation.validated_params = params
        try:
            invocation.params = workflow.prepare(params)
        except NexusError:
            raise
        except Exception as exc:  # a validator of the workflow's own types
            raise failed(invocation.run, exc) from None
        return await call_next(invocation)

    async def _resolved(self, invocation: Invocation, given: dict[str, Any], workflow: Workflow) -> dict[str, Any]:
        """Return what the resolvers make of parameters, within the time that the run may take."""
        limit = self._limit(invocation, workflow)
        params, added = given, frozenset[str]()
        source = self._sources.get(invocation.channel, ParameterSource.CODE)
        try:
            with OwnTaskLimit(self._timers, limit):
                for resolver in self._resolvers:
                    raw = raw_parameters(invocation, params, added, source)
                    call = resolver.resolve_parameters
                    returned = await self._threads.call(call, invocation.name, invocation.channel, raw)
                    params = outcome(resolver, returned, raw)
                    added = frozenset(params.keys() - given.keys())
        except TimeLimitPassed as exc:
            raise WorkflowTimeout(f"The parameters were not resolved within {exc.seconds:g} seconds.") from None
        return fitting(workflow, params, added)
