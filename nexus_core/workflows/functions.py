"""Workflows of plain callables: a sync function (run in a thread), an async one, an async generator (a stream)."""

from __future__ import annotations

import asyncio
import inspect
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError as PydanticError

from nexus_core.concurrency.threads import ENDS_PROCESS, DaemonThreads, is_async
from nexus_core.concurrency.worker_processes import check as check_for_process
from nexus_core.errors import ValidationError
from nexus_core.schema.conversion import conversion_errors
from nexus_core.schema.report import summary
from nexus_core.schema.validation import MAX_ERRORS
from nexus_core.workflows.signatures import Signature
from nexus_core.workflows.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.concurrency.worker_processes import WorkerProcesses
    from nexus_core.runs.context import Context

BREATH = 100
"""Items of a stream after which the event loop gets its turn: a stream that waits for nothing would hold it up, and
one in a thread could be ahead of its followers by its whole length."""


class FunctionWorkflow(Workflow):
    """A callable whose type hints are its schema.

    Attributes:
        function: The callable.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], metadata: Mapping[str, Any], threads: DaemonThreads,
        processes: WorkerProcesses | None = None,
    ) -> None:  # fmt: skip
        signature = Signature(name, function)
        expected = metadata.get("expected_parameters")
        input_schema = signature.expected_schema(expected) if expected else signature.input_schema
        self.function = function
        self._threads = threads
        self._processes = processes
        self._converters = {} if expected else signature.converters
        self._convert_rest = None if expected else signature.convert_rest
        self._decimals = frozenset() if expected else signature.decimals
        self._rest_is_decimal = signature.rest_is_decimal and not expected
        self._names = input_schema["properties"].keys()
        self.reads_decimals = bool(self._decimals) or self._rest_is_decimal
        self._converts = any((self._convert_rest, *self._converters.values()))
        self._renamed = {} if expected else signature.renamed
        self._fields = signature.fields
        self._defaults = {key: each["default"] for key, each in (expected or {}).items() if "default" in each}
        self._serialize = signature.serialize
        self._context_name = signature.context_name
        self._positional = signature.positional_only
        self._is_async = is_async(function)
        self.streams = signature.streams
        self.uses_context = signature.context_name is not None
        if processes is not None:
            check_for_process(name, function, streams=self.streams, takes_context=self.uses_context)
        super().__init__(
            name,
            input_schema=input_schema,
            output_schema=signature.output_schema,
            description=metadata.get("description") or signature.description,
            metadata=metadata,
        )

    def prepare(self, params: dict[str, Any]) -> dict[str, Any]:
        """Check parameters against the schema, then turn them into the annotated types."""
        self.input_validator.check(params)
        if not self._converts:
            return params
        prepared = dict(params)
        errors: list[dict[str, Any]] = []
        for name in params:
            convert = self._converters.get(name, self._convert_rest)
            if convert is not None:
                try:
                    prepared[name] = convert(prepared[name])
                except (PydanticError, msgspec.ValidationError, OverflowError) as exc:
                    errors += conversion_errors(name, params[name], exc, convert)
                except (*ENDS_PROCESS, asyncio.CancelledError) as exc:
                    raise RuntimeError(f"the check of {name} raised {exc!r}") from exc
        if errors:
            raise ValidationError(summary(errors), errors=errors[:MAX_ERRORS])
        return prepared

    def with_decimals(self, params: dict[str, Any], exact: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters with the exact numbers of those whose hints hold a decimal."""
        rest = params.keys() - self._names if self._rest_is_decimal else frozenset[str]()
        return params | {name: exact[name] for name in (*self._decimals, *rest) if name in params and name in exact}

    async def run(self, params: dict[str, Any], context: Context) -> Any:
        """Call the function; collect the items of a stream."""
        positional, arguments = self._arguments(params, context)
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
        return value if self._serialize is None else self._serialize(value)

    def _arguments(self, params: dict[str, Any], context: Context) -> tuple[list[Any], dict[str, Any]]:
        """Return what the function is called with."""
        renamed = self._renamed
        arguments = {renamed.get(name, name): value for name, value in params.items()} if renamed else dict(params)
        for name, default in self._defaults.items():
            if name not in arguments:
                arguments[name] = deepcopy(default)
        for name, field in self._fields.items():
            if name not in arguments:
                arguments[name] = field.get_default(call_default_factory=True, validated_data=arguments)
        if self._context_name is not None:
            arguments[self._context_name] = context
        return [arguments.pop(name, default) for name, default in self._positional], arguments

    async def _collect(self, positional: list[Any], arguments: dict[str, Any], context: Context) -> msgspec.Raw:
        """Publish each item as it comes and return them all as one JSON array."""
        items: list[bytes] = []
        serialize = self._serialize

        def keep(item: Any) -> int:
            items.append(context.output(item if serialize is None else serialize(item)))
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
