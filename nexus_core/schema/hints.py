"""JSON Schema, and conversion from JSON's types, for Python type hints.

pydantic does the work for everything it knows. A hint with a msgspec struct anywhere in it goes to msgspec, which
knows dataclasses, enums and the rest as well and asks pydantic about models and other types inside.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticError
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
        self._models: dict[type, TypeAdapter[Any]] = {}
        self.schemas: dict[str, dict[str, Any]] = {}
        self.definitions: dict[str, Any] = {}
        structs = {name: hint for name, hint in self._hints.items() if self._is_for_msgspec(name, hint)}
        self._use_pydantic({name: hint for name, hint in self._hints.items() if name not in structs})
        self._structs = structs
        self._use_msgspec(structs)

    def _is_for_msgspec(self, name: str, hint: Any) -> bool:
        try:
            return _needs_msgspec(hint)
        except NameError as exc:
            raise _no_json_form(name, hint, exc) from None

    def _use_pydantic(self, hints: Mapping[str, Any]) -> None:
        for name, hint in hints.items():
            try:
                self._adapters[name] = TypeAdapter(hint)
            except (PydanticSchemaGenerationError, PydanticUserError, TypeError, ImportError) as exc:
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
                hints.values(), schema_hook=self._model_schema, ref_template="#/$defs/{name}"
            )
        except (TypeError, NameError) as exc:
            wrong = _first_failing(hints, lambda name: msgspec.json.schema(hints[name], schema_hook=self._model_schema))
            raise _no_json_form(wrong, hints[wrong], exc) from None
        self._define(definitions)
        self.schemas |= dict(zip(hints, schemas, strict=True))

    def _define(self, definitions: Mapping[str, Any]) -> None:
        for name, schema in definitions.items():
            if self.definitions.setdefault(name, schema) != schema:
                raise ConfigurationError(f"Two different types are called {name}: rename one of them.")

    def _model(self, cls: type) -> TypeAdapter[Any]:
        if cls not in self._models:
            self._models[cls] = TypeAdapter(cls)
        return self._models[cls]

    def _model_schema(self, cls: type) -> dict[str, Any]:
        """Return pydantic's schema of a type that msgspec does not know, and take its definitions along.

        They get names of their own: the two describe the same dataclass in different words.
        """
        prefix = re.sub(r"\W", "_", cls.__name__) + "."
        try:
            schema = self._model(cls).json_schema(ref_template=f"#/$defs/{prefix}{{model}}", mode=self._mode)
        except PydanticUserError as exc:
            raise TypeError(str(exc).splitlines()[0]) from None
        self._define({f"{prefix}{name}": each for name, each in schema.pop("$defs", {}).items()})
        return schema

    def _convert_model(self, cls: type, value: Any) -> Any:
        try:
            return self._model(cls).validate_python(value)
        except PydanticError as exc:  # its own text repeats the value
            raise ValueError("; ".join(each["msg"] for each in exc.errors(include_input=False)[:3])) from None

    def converter(self, name: str) -> Convert | None:
        """Return what turns a checked JSON value into the annotated type; None where it is that type already."""
        hint = self._hints[name]
        if name in self._structs:
            return lambda value: msgspec.convert(value, hint, dec_hook=self._convert_model)
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


def _needs_msgspec(hint: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether something that only msgspec takes rightly is somewhere in a hint, in the fields of dataclasses too.

    That is its structs and constraints, bytes (base64, as in results), and `typing.TypedDict` before Python 3.12.
    """
    if isinstance(hint, type) and not get_args(hint):
        if issubclass(hint, (msgspec.Struct, bytes, bytearray)):
            return True
        if sys.version_info < (3, 12) and type(hint).__module__ == "typing" and typing.is_typeddict(hint):
            return True
        if not dataclasses.is_dataclass(hint) or hint in seen:
            return False
        fields = typing.get_type_hints(hint, include_extras=True).values()
        return any(_needs_msgspec(each, seen | {hint}) for each in fields)
    if get_origin(hint) is Annotated and any(isinstance(each, msgspec.Meta) for each in hint.__metadata__):
        return True
    return any(_needs_msgspec(arg, seen) for arg in _type_arguments(hint))


def _type_arguments(hint: Any) -> Sequence[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ()
    return args[:1] if origin is Annotated else (*args, origin) if origin is not None else args
