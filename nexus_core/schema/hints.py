"""JSON Schema, and conversion from and to JSON's types, for Python type hints.

pydantic does the work for everything it knows. A hint with a msgspec struct anywhere in it goes to msgspec, which
knows dataclasses, enums and the rest as well and asks pydantic about models and other types inside.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, NewType, Union, get_args, get_origin

import msgspec
from pydantic import ConfigDict, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from nexus_core import jsontext
from nexus_core.errors import ConfigurationError
from nexus_core.schema.parts import ignored_by_msgspec, is_written_by_pydantic, needs_msgspec, parts
from nexus_core.types.codecs import Codec, is_encoded, is_own_form

if TYPE_CHECKING:
    from pydantic_core.core_schema import AfterValidatorFunctionSchema, BytesSchema, EnumSchema, LiteralSchema

Convert = Callable[[Any], Any]
_REF = "#/$defs/{model}"
_UNIONS = (Union, types.UnionType)
_CONFIG = ConfigDict(ser_json_inf_nan="constants")
"""How values are written that are not in a model, which has its own configuration."""


class Hints:
    """The hints of several values that share one schema document.

    Args:
        hints: What each name is annotated with.
        mode: ``validation`` for values that come in, ``serialization`` for results.

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
        self._codecs: dict[str, Codec] = {}
        self._models: dict[type, TypeAdapter[Any]] = {}
        self._model_codecs: dict[type, Codec] = {}
        self.schemas: dict[str, dict[str, Any]] = {}
        self.definitions: dict[str, Any] = {}
        structs = {name: hint for name, hint in self._hints.items() if _is_for_msgspec(name, hint)}
        self._use_pydantic({name: hint for name, hint in self._hints.items() if name not in structs})
        self._structs = structs
        self._use_msgspec(structs)

    def _use_pydantic(self, hints: Mapping[str, Any]) -> None:
        for name, hint in hints.items():
            try:
                # Within a new type, because it takes no configuration for a bare dataclass.
                adapter: TypeAdapter[Any] = TypeAdapter(NewType("Value", hint), config=_CONFIG)  # type: ignore[arg-type]
                self._adapters[name], self._codecs[name] = adapter, Codec(adapter, jsontext.to_jsonable)
            except (PydanticSchemaGenerationError, PydanticUserError, TypeError, ImportError) as exc:
                raise _no_json_form(name, hint, exc) from None
        if not self._adapters:
            return
        try:
            schemas, document = TypeAdapter.json_schemas(
                [(name, self._mode, adapter) for name, adapter in self._adapters.items()],
                ref_template=_REF,
                schema_generator=_JsonSchema,
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
            schema = self._model(cls).json_schema(
                ref_template=f"#/$defs/{prefix}{{model}}", mode=self._mode, schema_generator=_JsonSchema
            )
        except PydanticUserError as exc:
            raise TypeError(str(exc).splitlines()[0]) from None
        self._define({f"{prefix}{name}": each for name, each in schema.pop("$defs", {}).items()})
        return schema

    def _codec(self, cls: type) -> Codec:
        if cls not in self._model_codecs:
            self._model_codecs[cls] = Codec(self._model(cls), jsontext.to_jsonable)
        return self._model_codecs[cls]

    def _convert_model(self, cls: type, value: Any) -> Any:
        try:
            return self._codec(cls).load(value)
        except PydanticError as exc:  # its own text repeats the value
            raise ValueError("; ".join(each["msg"] for each in exc.errors(include_input=False)[:3])) from None

    def document(self, name: str) -> dict[str, Any]:
        """Return the schema of a name as a complete document."""
        return self.schemas[name] | ({"$defs": self.definitions} if self.definitions else {})

    def converter(self, name: str) -> Convert | None:
        """Return what turns a checked JSON value into the annotated type; None where it is that type already."""
        hint = self._hints[name]
        if name in self._structs:
            return lambda value: msgspec.convert(value, hint, str_keys=True, dec_hook=self._convert_model)
        if _is_json_native(hint):
            return None
        if hint is int or hint is float:
            return hint  # 3.0 is an integer to JSON Schema, and 3 a number
        return self._codecs[name].load

    def holds_decimals(self, name: str) -> bool:
        """Whether a decimal is anywhere in a value: a number for it may be more exact than a float."""
        if name not in self._structs:
            return self._codecs[name].decimals
        inside = [part for part in parts(self._hints[name]) if isinstance(part, type)]
        return any(part is Decimal or (part in self._models and self._codec(part).decimals) for part in inside)

    def serializer(self, name: str) -> Convert | None:
        """Return what pydantic makes of a value on its way out; None where it is written as what it is."""
        if name in self._structs or not is_written_by_pydantic(self._hints[name]):
            return None
        return self._codecs[name].dump


class _JsonSchema(GenerateJsonSchema):
    """Says of bytes that they are base64, as `Codec` reads and writes them."""

    _encoded = 0

    def function_after_schema(self, schema: AfterValidatorFunctionSchema) -> JsonSchemaValue:
        self._encoded += is_encoded(schema)
        try:
            return super().function_after_schema(schema)
        finally:
            self._encoded -= is_encoded(schema)

    def bytes_schema(self, schema: BytesSchema) -> JsonSchemaValue:
        if self._encoded or self._has_own_form():
            return super().bytes_schema(schema)
        described: JsonSchemaValue = {"type": "string", "contentEncoding": "base64"}
        if "min_length" in schema:
            described["minLength"] = ceil(schema["min_length"] * 4 / 3)  # the padding may be left out
        if "max_length" in schema:
            described["maxLength"] = ceil(schema["max_length"] / 3) * 4
        return described

    def enum_schema(self, schema: EnumSchema) -> JsonSchemaValue:
        if not any(isinstance(each.value, bytes) for each in schema["members"]):
            return super().enum_schema(schema)
        return {"title": schema["cls"].__name__, "enum": [_json_form(each) for each in schema["members"]]}

    def literal_schema(self, schema: LiteralSchema) -> JsonSchemaValue:
        if not any(isinstance(each, bytes) for each in schema["expected"]):
            return super().literal_schema(schema)
        return {"enum": [_json_form(each) for each in schema["expected"]]}

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, (bytes, bytearray, list, tuple, set, frozenset, dict)) and not self._has_own_form():
            with suppress(TypeError, ValueError):
                return jsontext.plain(dft)
        return super().encode_default(dft)

    def _has_own_form(self) -> bool:
        return is_own_form(self._config.config_dict)


def _is_for_msgspec(name: str, hint: Any) -> bool:
    try:
        if not needs_msgspec(hint):
            return False
        ignored = ignored_by_msgspec(hint)
    except (NameError, TypeError) as exc:
        raise _no_json_form(name, hint, exc) from None
    if ignored is not None:
        raise ConfigurationError(f"The annotation of {name} ({hint!r}) is read by msgspec, which ignores {ignored}.")
    return True


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


def _json_form(value: Any) -> Any:
    """Return a value, or that of a member of an enumeration, as JSON has it."""
    return jsontext.plain(value.value if isinstance(value, Enum) else value)


def _no_json_form(name: str, hint: Any, exc: Exception) -> ConfigurationError:
    reason = str(exc).splitlines()[0].partition(". Set `arbitrary_types_allowed")[0]
    if reason.startswith("Encoding objects"):
        reason = f"{reason}: make what is the default of a field with default_factory"
    return ConfigurationError(f"The annotation of {name} ({hint!r}) has no JSON form: {reason.rstrip(':')}")


def _is_json_native(hint: Any) -> bool:
    """Whether every value that fits the hint's schema is an instance of the hint as it comes from JSON."""
    if hint in (Any, object, str, bool, None, type(None), dict, list):
        return True
    origin, args = get_origin(hint), get_args(hint)
    if origin in (list, *_UNIONS):
        return all(_is_json_native(arg) for arg in args)
    if origin is dict:
        return not args or (args[0] is str and _is_json_native(args[1]))
    if origin is Literal:
        return all(isinstance(arg, (str, bool)) for arg in args)
    return False
