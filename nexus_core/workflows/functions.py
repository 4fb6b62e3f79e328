"""Workflows of plain callables: a sync function (run in a thread), an async one, an async generator (a stream)."""

from __future__ import annotations

import asyncio
import inspect
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core.concurrency.threads import DaemonThreads, is_async
from nexus_core.concurrency.worker_processes import check as check_for_process
from nexus_core.workflows.callables import has_attribute
from nexus_core.workflows.code_digest import digest_of_function
from nexus_core.workflows.function_form import FunctionForm
from nexus_core.workflows.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.concurrency.worker_processes import WorkerProcesses
    from nexus_core.runs.context import Context

BREATH = 100
"""Items of a stream after which the event loop gets its turn: a stream that waits for nothing would hold it up, and
one in a thread could be ahead of its followers by its whole length."""

ASKING = frozenset({"ask", "ask_sync"})
"""The methods of a `Context` that wait for an answer."""


class FunctionWorkflow(Workflow):
    """A callable whose type hints are its schema.

    Attributes:
        function: The callable.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], metadata: Mapping[str, Any], threads: DaemonThreads,
        processes: WorkerProcesses | None = None,
    ) -> None:  # fmt: skip
        form = FunctionForm(function, name, metadata.get("expected_parameters"))
        self.function = function
        self._form = form
        self._threads = threads
        self._processes = processes
        self._is_async = is_async(function)
        self.reads_decimals = form.reads_decimals
        self.streams = form.streams
        self.uses_context = form.takes_context
        self.asks = form.takes_context and has_attribute(function, ASKING)
        if processes is not None:
            check_for_process(name, function, streams=self.streams, takes_context=self.uses_context)
        super().__init__(
            name,
            input_schema=form.input_schema,
            output_schema=form.output_schema,
            description=metadata.get("description") or form.description,
            metadata=metadata,
        )

    @cached_property
    def code_digest(self) -> str:
        """See `Workflow.code_digest`: of the function's code, and of the functions defined in it."""
        return digest_of_function(self.function) or super().code_digest

    def prepare(self, params: dict[str, Any]) -> dict[str, Any]:
        """Check parameters against the schema, then turn them into the annotated types."""
        self.input_validator.check(params)
        return self._form.convert(params)

    def with_decimals(self, params: dict[str, Any], exact: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters with the exact numbers of those whose hints hold a decimal."""
        return self._form.with_decimals(params, exact)

    async def run(self, params: dict[str, Any], context: Context) -> Any:
        """Call the function; collect the items of a stream."""
        positional, arguments = self._form.arguments(params, context)
        if self.streams:
            return await self._collect(positional, arguments, context)
        if self._is_async:
            value = await self.function(*positional, **arguments)
        elif self._processes is not None:
            value = await self._processes.run(self.function, positional, arguments)
        else:
            value = await self._threads.run(context.run.track_background_work, self.function, *positional, **arguments)
            if inspect.isawaitable(value):
                value = await value
        return self._form.result(value)

    async def _collect(self, positional: list[Any], arguments: dict[str, Any], context: Context) -> msgspec.Raw:
        """Publish each item as it comes and return them all as one JSON array."""
        items: list[bytes] = []
        as_written = self._form.result

        def keep(item: Any) -> int:
            items.append(context.output(as_written(item)))
            return len(items)

        if self._is_async:
            stream = self.function(*positional, **arguments)
        else:
            stream = await self._threads.run(
                context.run.track_background_work, _drain, self.function, positional, arguments, context, keep
            )
        if stream is not None:
            try:
                async for item in stream:
                    if keep(item) % BREATH == 0:
                        await asyncio.sleep(0)
            finally:
                if hasattr(stream, "aclose"):
                    await stream.aclose()
        return msgspec.Raw(b"[" + b",".join(items) + b"]")


def _drain(
    function: Callable[..., Any], positional: list[Any], arguments: dict[str, Any], context: Context,
    keep: Callable[[Any], int],
) -> Any:  # fmt: skip
    """Take every item of a sync stream. An async one, out of a sync function, is returned for the event loop."""
    stream = function(*positional, **arguments)
    if hasattr(stream, "__aiter__"):
        return stream
    try:
        for item in stream:
            if context.cancelled:
                break
            if keep(item) % BREATH == 0:
                context.catch_up()
    finally:
        if hasattr(stream, "close"):
            stream.close()  # now and here: an exception would keep it from ending
    return None
