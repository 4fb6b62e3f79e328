"""What a callable's signature, type hints and docstring say about the workflow it is."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from nexus_core import jsontext
from nexus_core.errors import ConfigurationError
from nexus_core.runs.context import Context
from nexus_core.schema.expected import from_expected_parameters
from nexus_core.schema.hints import Convert, Hints
from nexus_core.workflows.aliases import alias_of, without_alias
from nexus_core.workflows.callables import check_callable, implementation_of, signature_of, takes_first_by_position

_STREAMS = (AsyncIterator, AsyncGenerator, AsyncIterable, Iterator, Generator)
_EMPTY = inspect.Parameter.empty
_QUALIFIERS: tuple[Any, ...] = (typing.Required, typing.NotRequired)

_TYPING_ONLY = {"Context": Context} | {each.__name__: each for each in _STREAMS}
"""Names that code formatters move below ``if TYPE_CHECKING``, where nothing can be looked up at run time."""


class Signature:
    """A callable, seen as a workflow.

    Args:
        name: The workflow's name, for messages.
        function: The callable.

    Attributes:
        input_schema, output_schema: JSON Schema of its parameters, and of its result if that is known.
        description: Its docstring without what that says of parameters.
        streams: Whether it gives its result item by item.
        context_name: The parameter that takes the `Context`, or None.
        positional_only: Name and default of the parameters that take no name, in their order.
        renamed: The function's own names of parameters that callers know under the alias of a ``Field``.
        fields: What pydantic's ``Field(...)`` says of the parameters to which it gives a default.
        converters: What turns a checked value into the annotated type, by parameter; None where nothing has to.
        convert_rest: The same for the values of ``**rest``.
        decimals: The parameters that hold decimals, for which numbers are not to pass through a float.
        rest_is_decimal: Whether the values of ``**rest`` do.
        serialize: What has to be done with the result, or an item of it, for it to fit its schema; None for nothing.

    Raises:
        ConfigurationError: It can't be a workflow. The message names the parameter.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        try:
            parameters = list(signature_of(function).parameters.values())
        except (TypeError, ValueError) as exc:
            raise ConfigurationError(f"{name}: {function!r} can't be called as a workflow: {exc}") from None
        check_callable(name, function, parameters)
        implementation = implementation_of(function)
        hints = self._resolve(implementation)
        hints |= {p.name: p.annotation for p in parameters if p.name not in hints and _is_hint(p.annotation)}
        self.context_name = next((p.name for p in parameters if _is_context(hints.get(p.name))), None)
        parameters = _unpacked(parameters, hints)
        inputs = [p for p in parameters if p.name != self.context_name]
        if any(p.kind is p.VAR_POSITIONAL for p in inputs):
            raise ConfigurationError(f"{name}: *args can't be a parameter of a workflow; use a list.")
        self._named = [p for p in inputs if p.kind is not p.VAR_KEYWORD]
        self._public = {p.name: alias_of(hints.get(p.name), p.default) or p.name for p in self._named}
        self._refuse_equal_names()
        self.renamed = {public: own for own, public in self._public.items() if public != own}
        self._rest = next((p for p in inputs if p.kind is p.VAR_KEYWORD), None)
        self.positional_only = [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_ONLY]
        if self._named and not self.positional_only and takes_first_by_position(function):
            self.positional_only = [(self._named[0].name, self._named[0].default)]
        self.fields = {p.name: field for p in self._named if (field := _field(hints.get(p.name), p.default))}
        self.description, self._descriptions = _docstring(function, implementation)
        try:
            self._hints = Hints({p.name: _hint(hints.get(p.name, Any), p) for p in inputs})
        except ConfigurationError as exc:
            raise ConfigurationError(f"{name}: {exc}") from None
        self.converters = {self._public[p.name]: self._hints.converter(p.name) for p in self._named}
        self.convert_rest = self._hints.converter(self._rest.name) if self._rest else None
        self.decimals = frozenset(self._public[p.name] for p in self._named if self._hints.holds_decimals(p.name))
        self.rest_is_decimal = self._rest is not None and self._hints.holds_decimals(self._rest.name)
        self.streams = _is_stream(function, implementation, hints.get("return"))
        self.input_schema = self._input_schema()
        self.output_schema, self.serialize = self._output(hints.get("return"))

    def _resolve(self, target: Callable[..., Any]) -> dict[str, Any]:
        names = {}
        if inspect.isfunction(target) or inspect.ismethod(target):
            names = _nonlocals(getattr(target, "__func__", target))
        known = _TYPING_ONLY | getattr(target, "__globals__", {})
        try:
            return typing.get_type_hints(target, globalns=known, localns=names, include_extras=True)
        except (NameError, TypeError) as exc:
            raise ConfigurationError(
                f"{self._name}: a type hint can't be resolved: {exc}. Type hints must use names that exist in "
                "the module at run time: neither below `if TYPE_CHECKING` nor inside a function."
            ) from None

    def _refuse_equal_names(self) -> None:
        for own, public in self._public.items():
            others = [name for name, other in self._public.items() if other == public and name != own]
            if others or public == self.context_name:
                raise ConfigurationError(f"{self._name}: the alias {public!r} of {own} names another parameter too.")

    def _input_schema(self) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        required: list[str] = []
        for parameter in self._named:
            schema = dict(self._hints.schemas[parameter.name])
            schema.pop("title", None)
            if text := self._descriptions.get(parameter.name):
                schema.setdefault("description", text)
            default = self._default(parameter)
            public = self._public[parameter.name]
            if default is _EMPTY:
                required.append(public)
            elif (shown := _json_default(default)) is not ...:
                schema["default"] = shown
            properties[public] = schema
        rest = self._hints.schemas[self._rest.name] if self._rest else False
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": rest}
        taken = {*self._public, self.context_name} - {None, *properties}
        if self._rest and taken:  # names of the function's own parameters are not for **rest
            schema["propertyNames"] = {"not": {"enum": sorted(taken)}}
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
        """Return the schema of ``expected_parameters``. What neither they nor the function default must be given.

        Raises:
            ConfigurationError: They do not fit the function.
        """
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
            if parameter.name not in schema["required"] and "default" not in expected[parameter.name]:
                schema["required"].append(parameter.name)
        return schema


def _is_stream(function: Callable[..., Any], implementation: Callable[..., Any], returned: Any) -> bool:
    if inspect.iscoroutinefunction(function):  # it may be a decorator that collects a stream's items
        return False
    is_generator = inspect.isasyncgenfunction(implementation) or inspect.isgeneratorfunction(implementation)
    return is_generator or (get_origin(returned) or returned) in _STREAMS


def _unpacked(parameters: list[inspect.Parameter], hints: dict[str, Any]) -> list[inspect.Parameter]:
    """Return parameters with the members of a typed dictionary in place of ``**rest: Unpack[...]``; add their hints.

    A member that may be left out has the default `...`, which no schema shows.
    """
    last = parameters[-1] if parameters else None
    hint = hints.get(last.name) if last is not None and last.kind is last.VAR_KEYWORD else None
    if last is None or getattr(get_origin(hint), "_name", "") != "Unpack":  # there are two, before Python 3.12
        return parameters
    (members,) = get_args(hints.pop(last.name))
    named = []
    for name, each in typing.get_type_hints(members, include_extras=True).items():
        said = get_origin(each)  # strings are not evaluated for __required_keys__
        is_required = said is typing.Required or (said is not typing.NotRequired and name in members.__required_keys__)
        hints[name] = get_args(each)[0] if said in _QUALIFIERS else each
        named.append(inspect.Parameter(name, last.KEYWORD_ONLY, default=_EMPTY if is_required else ...))
    return [*parameters[:-1], *named]


def _is_hint(annotation: Any) -> bool:
    return annotation is not _EMPTY and not isinstance(annotation, str)


def _hint(hint: Any, parameter: inspect.Parameter) -> Any:
    """Return the parameter's hint; a default of None makes it optional, as readers of the code expect."""
    hint = without_alias(hint)
    if isinstance(parameter.default, FieldInfo):
        return without_alias(Annotated[hint, parameter.default])
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
    try:
        return jsontext.plain(value)
    except (TypeError, ValueError):
        return ...


def _nonlocals(function: Any) -> dict[str, Any]:
    """Return the variables of the functions around one, those that have a value by now."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):
            found[name] = cell.cell_contents
    return found


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
