"""JSON Schema, and conversion from JSON's types, for Python type hints.

pydantic does the work for everything it knows. A hint with a msgspec struct anywhere in it goes to msgspec, which
knows dataclasses, enums and the rest as well and asks pydantic about models inside.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from nexus_core.errors import ConfigurationError

Convert = Callable[[Any], Any]
_REF = "#/$defs/{model}"
_UNIONS = (Union, types.UnionType)


class Hints:
    """The hints of several values that share one schema document.

    Args:
        hints: What each name is annotated with.
        mode: ``validation`` for values that come in, ``serialization`` for those that go out.

    Attributes:
        schemas: The JSON Schema of each name, with references into ``definitions``.
        definitions: The document's ``$defs``.

    Raises:
        ConfigurationError: A hint has no JSON form. The message names it.
    """

    def __init__(self, hints: Mapping[str, Any], mode: Literal["validation", "serialization"] = "validation") -> None:
        self._hints = dict(hints)
        self._mode = mode
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self.schemas: dict[str, dict[str, Any]] = {}
        self.definitions: dict[str, Any] = {}
        structs = {name: hint for name, hint in self._hints.items() if self._is_for_msgspec(name, hint)}
        self._use_pydantic({name: hint for name, hint in self._hints.items() if name not in structs})
        self._structs = structs
        self._use_msgspec(structs)

    def _is_for_msgspec(self, name: str, hint: Any) -> bool:
        try:
            return _mentions_struct(hint)
        except NameError as exc:
            raise _no_json_form(name, hint, exc) from None

    def _use_pydantic(self, hints: Mapping[str, Any]) -> None:
        for name, hint in hints.items():
            try:
                self._adapters[name] = TypeAdapter(hint)
            except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as exc:
                raise _no_json_form(name, hint, exc) from None
        if not self._adapters:
            return
        try:
            schemas, document = TypeAdapter.json_schemas(
                [(name, self._mode, adapter) for name, adapter in self._adapters.items()], ref_template=_REF
            )
        except (PydanticUserError, TypeError) as exc:
            wrong = _first_failing(hints, lambda name: self._adapters[name].json_schema(mode=self._mode))
            raise _no_json_form(wrong, hints[wrong], exc) from None
        self.definitions |= document.get("$defs", {})
        self.schemas |= {name: schema for (name, _), schema in schemas.items()}

    def _use_msgspec(self, hints: Mapping[str, Any]) -> None:
        if not hints:
            return
        try:
            schemas, definitions = msgspec.json.schema_components(
                hints.values(), schema_hook=_model_schema, ref_template="#/$defs/{name}"
            )
        except (TypeError, NameError) as exc:
            wrong = _first_failing(hints, lambda name: msgspec.json.schema(hints[name], schema_hook=_model_schema))
            raise _no_json_form(wrong, hints[wrong], exc) from None
        for name, schema in definitions.items():
            if self.definitions.setdefault(name, schema) != schema:
                raise ConfigurationError(f"Two different types are called {name}: rename one of them.")
        self.schemas |= dict(zip(hints, schemas, strict=True))

    def converter(self, name: str) -> Convert | None:
        """Return what turns a checked JSON value into the annotated type; None where it is that type already."""
        hint = self._hints[name]
        if name in self._structs:
            return lambda value: msgspec.convert(value, hint, dec_hook=_convert_model)
        if _is_json_native(hint):
            return None
        if hint is int or hint is float:
            return hint  # 3.0 is an integer to JSON Schema, and 3 a number
        return self._adapters[name].validate_python


def _first_failing(names: Iterable[str], make_schema: Callable[[str], object]) -> str:
    """Return the name whose schema can't be made: made together, the error does not say."""
    last = ""
    for name in names:
        last = name
        try:
            make_schema(name)
        except (PydanticUserError, TypeError, NameError):
            break
    return last


def _no_json_form(name: str, hint: Any, exc: Exception) -> ConfigurationError:
    reason = str(exc).splitlines()[0]
    return ConfigurationError(f"The annotation of {name} ({hint!r}) has no JSON form: {reason.rstrip(':')}")


def _is_json_native(hint: Any) -> bool:
    """Whether every value that fits the hint's schema is an instance of the hint as it comes from JSON."""
    if hint in (Any, object, str, bool, None, type(None), dict, list):
        return True
    origin, args = get_origin(hint), get_args(hint)
    if origin in (list, *_UNIONS):
        return all(_is_json_native(arg) for arg in args)
    if origin is dict:
        return args[0] is str and _is_json_native(args[1])
    if origin is Literal:
        return all(isinstance(arg, (str, bool)) for arg in args)
    return False


def _mentions_struct(hint: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether a msgspec struct is somewhere in a hint, in the fields of its dataclasses too."""
    if isinstance(hint, type) and not get_args(hint):
        if issubclass(hint, msgspec.Struct):
            return True
        if not dataclasses.is_dataclass(hint) or hint in seen:
            return False
        fields = typing.get_type_hints(hint, include_extras=True).values()
        return any(_mentions_struct(each, seen | {hint}) for each in fields)
    return any(_mentions_struct(arg, seen) for arg in _type_arguments(hint))


def _type_arguments(hint: Any) -> Sequence[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ()
    return args[:1] if origin is Annotated else (*args, origin) if origin is not None else args


def _model_schema(cls: type) -> dict[str, Any]:
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        return TypeAdapter(cls).json_schema()
    raise NotImplementedError


def _convert_model(cls: type, value: Any) -> Any:
    return TypeAdapter(cls).validate_python(value)
