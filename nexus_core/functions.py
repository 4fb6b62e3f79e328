"""Workflows of plain callables: a sync function (run in a thread), an async one, an async generator (a stream)."""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from pydantic import ValidationError as PydanticError
from pydantic.fields import FieldInfo

from nexus_core.context import Context
from nexus_core.errors import ConfigurationError, ValidationError
from nexus_core.schema.expected import from_expected_parameters
from nexus_core.schema.hints import Convert, Hints
from nexus_core.schema.report import pointer, printable, summary
from nexus_core.schema.validation import MAX_ERRORS
from nexus_core.threads import ENDS_PROCESS, DaemonThreads, is_async
from nexus_core.workflow import Workflow

_STREAMS = (AsyncIterator, AsyncGenerator, AsyncIterable, Iterator, Generator)
_EMPTY = inspect.Parameter.empty

BREATH = 100
"""Items of a stream after which the event loop gets its turn: a stream that waits for nothing would hold it up, and
one in a thread could be ahead of its followers by its whole length."""

_TYPING_ONLY = {"Context": Context} | {each.__name__: each for each in _STREAMS}
"""Names that code formatters move below ``if TYPE_CHECKING``, where nothing can be looked up at run time."""


class FunctionWorkflow(Workflow):
    """A callable whose type hints are its schema.

    Attributes:
        function: The callable.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], metadata: Mapping[str, Any], threads: DaemonThreads
    ) -> None:
        signature = _Signature(name, function)
        expected = metadata.get("expected_parameters")
        self.function = function
        self._threads = threads
        self._converters = {} if expected else signature.converters
        self._convert_rest = None if expected else signature.convert_rest
        self._converts = any((self._convert_rest, *self._converters.values()))
        self._fields = signature.fields
        self._serialize = signature.serialize
        self._context_name = signature.context_name
        self._positional = signature.positional_only
        self._is_async = is_async(function)
        self.streams = signature.streams
        self.uses_context = signature.context_name is not None
        super().__init__(
            name,
            input_schema=signature.expected_schema(expected) if expected else signature.input_schema,
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
                    errors += _conversion_errors(name, exc)
                except (*ENDS_PROCESS, asyncio.CancelledError) as exc:
                    raise RuntimeError(f"the check of {name} raised {exc!r}") from exc
        if errors:
            raise ValidationError(summary(errors), errors=errors[:MAX_ERRORS])
        return prepared

    async def run(self, params: dict[str, Any], context: Context) -> Any:
        """Call the function; collect the items of a stream."""
        arguments = dict(params)
        for name, field in self._fields.items():
            if name not in params:
                arguments[name] = field.get_default(call_default_factory=True, validated_data=params)
        if self._context_name is not None:
            arguments[self._context_name] = context
        positional = [arguments.pop(name, default) for name, default in self._positional]
        if self.streams:
            return await self._collect(positional, arguments, context)
        if self._is_async:
            value = await self.function(*positional, **arguments)
        else:
            value = await self._threads.run(context.run.outlives, self.function, *positional, **arguments)
            if inspect.isawaitable(value):
                value = await value
        return value if self._serialize is None else self._serialize(value)

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
                context.run.outlives, _drain, self.function, positional, arguments, context, keep
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


def _conversion_errors(name: str, exc: Exception) -> list[dict[str, Any]]:
    """Report what only the conversion can find: a user's own validator, a date that does not exist."""
    if isinstance(exc, PydanticError):
        return [
            {"pointer": pointer([name, *each["loc"]]), "message": printable(each["msg"], 300)}
            for each in exc.errors(include_input=False, include_url=False)[:MAX_ERRORS]
        ]
    return [{"pointer": pointer([name]), "message": printable(str(exc), 300)}]


class _Signature:
    """What a callable's signature, hints and docstring say."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as exc:
            raise ConfigurationError(f"{name}: {function!r} can't be called as a workflow: {exc}") from None
        implementation = _implementation(function)
        hints = self._resolve(implementation)
        hints |= {p.name: p.annotation for p in parameters if p.name not in hints and _is_hint(p.annotation)}
        self.context_name = next((p.name for p in parameters if _is_context(hints.get(p.name))), None)
        inputs = [p for p in parameters if p.name != self.context_name]
        if any(p.kind is p.VAR_POSITIONAL for p in inputs):
            raise ConfigurationError(f"{name}: *args has no name to be called by; use a list parameter.")
        self._named = [p for p in inputs if p.kind is not p.VAR_KEYWORD]
        self._rest = next((p for p in inputs if p.kind is p.VAR_KEYWORD), None)
        self.positional_only = [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_ONLY]
        self.fields = {p.name: field for p in self._named if (field := _field(hints.get(p.name), p.default))}
        self.description, self._descriptions = _docstring(function, implementation)
        try:
            self._hints = Hints({p.name: _hint(hints.get(p.name, Any), p) for p in inputs})
        except ConfigurationError as exc:
            raise ConfigurationError(f"{name}: {exc}") from None
        self.converters = {p.name: self._hints.converter(p.name) for p in self._named}
        self.convert_rest = self._hints.converter(self._rest.name) if self._rest else None
        self.streams = _is_stream(function, implementation, hints.get("return"))
        self.input_schema = self._input_schema()
        self.output_schema, self.serialize = self._output(hints.get("return"))

    def _resolve(self, target: Callable[..., Any]) -> dict[str, Any]:
        names = {}
        if inspect.isfunction(target) or inspect.ismethod(target):
            names = dict(inspect.getclosurevars(target).nonlocals)
        known = _TYPING_ONLY | getattr(target, "__globals__", {})
        try:
            return typing.get_type_hints(target, globalns=known, localns=names, include_extras=True)
        except (NameError, TypeError) as exc:
            raise ConfigurationError(
                f"{self._name}: a type hint can't be resolved: {exc}. Hints need names that a module "
                "has at run time: neither below `if TYPE_CHECKING` nor inside a function."
            ) from None

    def _input_schema(self) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        required: list[str] = []
        for parameter in self._named:
            schema = dict(self._hints.schemas[parameter.name])
            schema.pop("title", None)
            if text := self._descriptions.get(parameter.name):
                schema.setdefault("description", text)
            default = self._default(parameter)
            if default is _EMPTY:
                required.append(parameter.name)
            elif (shown := _json_default(default)) is not ...:
                schema["default"] = shown
            properties[parameter.name] = schema
        rest = self._hints.schemas[self._rest.name] if self._rest else False
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": rest}
        return schema | ({"$defs": self._hints.definitions} if self._hints.definitions else {})

    def _default(self, parameter: inspect.Parameter) -> Any:
        field = self.fields.get(parameter.name)
        if field is None:
            return parameter.default
        if field.is_required():
            return _EMPTY
        return ... if field.default_factory else field.default

    def _output(self, hint: Any) -> tuple[dict[str, Any] | None, Convert | None]:
        """Return the result's schema and what has to be done for it to fit."""
        if self.streams:
            hint = get_args(hint)[0] if get_origin(hint) in _STREAMS and get_args(hint) else Any
        if hint in (None, Any, type(None), object) and not self.streams:
            return None, None
        try:
            hints = Hints({"return": hint}, "serialization")
        except ConfigurationError as exc:
            raise ConfigurationError(f"{self._name}: {exc}") from None
        schema = dict(hints.schemas["return"])
        if self.streams:
            schema = {"type": "array", "items": schema}
        schema |= {"$defs": hints.definitions} if hints.definitions else {}
        return schema, hints.serializer("return")

    def expected_schema(self, expected: Mapping[str, Any]) -> dict[str, Any]:
        """Return the schema of ``expected_parameters``. What the function has no default for must be given."""
        try:
            schema = from_expected_parameters(expected)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{self._name}: {exc}") from None
        known = {p.name for p in self._named}
        for name in expected:
            if name not in known and self._rest is None:
                raise ConfigurationError(f"{self._name}: expected_parameters names {name!r}; the function does not.")
        for parameter in self._named:
            if self._default(parameter) is not _EMPTY:
                continue
            if parameter.name not in expected:
                raise ConfigurationError(f"{self._name}: expected_parameters lacks the parameter {parameter.name!r}.")
            if parameter.name not in schema["required"]:
                schema["required"].append(parameter.name)
        return schema


def _implementation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that is behind decorators, partial calls, a class or a callable object."""
    target = inspect.unwrap(function)
    while isinstance(target, functools.partial):
        target = inspect.unwrap(target.func)
    if inspect.isclass(target):
        return target.__init__
    return target if inspect.isroutine(target) else inspect.unwrap(type(target).__call__)


def _is_stream(function: Callable[..., Any], implementation: Callable[..., Any], returned: Any) -> bool:
    if inspect.iscoroutinefunction(function):  # it may be a decorator that collects a stream's items
        return False
    is_generator = inspect.isasyncgenfunction(implementation) or inspect.isgeneratorfunction(implementation)
    return is_generator or (get_origin(returned) or returned) in _STREAMS


def _is_hint(annotation: Any) -> bool:
    return annotation is not _EMPTY and not isinstance(annotation, str)


def _hint(hint: Any, parameter: inspect.Parameter) -> Any:
    """Return the parameter's hint; a default of None makes it optional, as readers of the code expect."""
    if isinstance(parameter.default, FieldInfo):
        return Annotated[hint, parameter.default]
    # Not `hint | None`: a hint may be a string, or a type without that operator.
    return Union[hint, None] if parameter.default is None and hint is not Any else hint  # noqa: UP007


def _field(hint: Any, default: Any) -> FieldInfo | None:
    """Return pydantic's ``Field(...)`` that gives a parameter its default, if one does."""
    if isinstance(default, FieldInfo):
        return default
    found = hint.__metadata__ if get_origin(hint) is Annotated and default is _EMPTY else ()
    return next((each for each in found if isinstance(each, FieldInfo) and not each.is_required()), None)


def _is_context(hint: Any) -> bool:
    if get_origin(hint) in (Annotated, Union, types.UnionType):
        return any(_is_context(arg) for arg in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, Context)


def _json_default(value: Any) -> Any:
    from nexus_core import jsontext

    try:
        return jsontext.parse_trusted(jsontext.encode(value))
    except (TypeError, ValueError):
        return ...


def _docstring(function: Callable[..., Any], implementation: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return a docstring's own text and what it says of each parameter (Google, NumPy and Sphinx style)."""
    from docstring_parser import parse

    outer = inspect.unwrap(function)
    texts = [inspect.getdoc(outer if inspect.isclass(outer) else type(outer)), implementation.__doc__]
    if inspect.isroutine(outer) or isinstance(outer, functools.partial):
        texts = [inspect.getdoc(implementation)]
    description = ""
    parameters: dict[str, str] = {}
    for text in filter(None, texts):
        parsed = parse(inspect.cleandoc(text))
        parts = [part for part in (parsed.short_description, parsed.long_description) if part]
        description = description or "\n\n".join(parts)
        parameters |= {p.arg_name: p.description for p in parsed.params if p.description}
    return description, parameters
