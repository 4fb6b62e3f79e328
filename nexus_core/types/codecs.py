"""How pydantic reads and writes JSON values: bytes as base64 text, in models, dataclasses and everything else alike.

pydantic has a setting for it, which each model has for itself. So the schema that pydantic validates by is copied with
bytes that are read and written as here; where a model sets ``val_json_bytes`` or ``ser_json_bytes``, they stay its own.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from enum import Enum
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import BaseModel, EncodedBytes, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic_core import (
    CoreConfig,
    PydanticCustomError,
    PydanticKnownError,
    SchemaError,
    SchemaSerializer,
    SchemaValidator,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Hook = Callable[[Any], Any]


_CONFIG = CoreConfig(ser_json_inf_nan="constants")
_NAMED = ("fields", "choices")
"""Members of a core schema that hold schemas by name, whatever the names are."""

_VALUES = ("metadata", "default", "expected", "members", "cls", "function", "config", "context")
"""Members that hold no schemas."""

_URL_SAFE = str.maketrans("-_", "+/")


class Codec:
    """Reads JSON values as a type, and writes them.

    Args:
        adapter: pydantic's view of the type.
        to_jsonable: Turns a value of any other type into one that msgspec writes.

    Attributes:
        decimals: Whether a decimal is anywhere in it.
    """

    __slots__ = ("_dump", "_load", "_load_text", "decimals")

    def __init__(self, adapter: TypeAdapter[Any], to_jsonable: Hook) -> None:
        copied = _Copy(to_jsonable)
        schema = copied.schema(adapter.core_schema)
        self.decimals = copied.decimals
        validator, serializer = adapter.validator, adapter.serializer
        if copied.found:
            validator = SchemaValidator(schema, _CONFIG, _use_prebuilt=False)
            serializer = SchemaSerializer(schema, _CONFIG, _use_prebuilt=False)
        self._load, self._load_text = validator.validate_python, validator.validate_json
        self._dump = serializer.to_python

    def load(self, value: Any) -> Any:
        """Return a JSON value as the type. What is strict takes a date's text and the like from JSON alone."""
        try:
            return self._load(value)
        except PydanticError as exc:
            if any(each["type"] == "float_type" for each in exc.errors(include_url=False, include_input=False)):
                raise  # from JSON, a number beyond a float's range would be infinite
            return self._load_text(msgspec.json.encode(value))

    def dump(self, value: Any) -> Any:
        """Return a value of the type in JSON's types."""
        return self._dump(value, mode="json", by_alias=True)


class _Copy:
    """Copies pydantic's core schemas.

    Attributes:
        found: Whether the copy reads or writes anything otherwise than the original.
        decimals: Whether a decimal is anywhere in it.
    """

    def __init__(self, to_jsonable: Hook) -> None:
        self._to_jsonable = to_jsonable
        self._any = {"type": "function-plain", "function": partial(_plain, to_jsonable), "when_used": "json"}
        self._canonical = msgspec.json.Encoder(enc_hook=to_jsonable, order="deterministic").encode
        self.found = False
        self.decimals = False

    def schema(self, node: Any, config: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """Return a copy of a schema, or of what holds schemas.

        Args:
            node: What to copy.
            config: That of the model it is in.
        """
        if isinstance(node, (list, tuple)):
            return type(node)(self.schema(each, config) for each in node)
        if not isinstance(node, dict) or is_encoded(node):
            return node
        if isinstance(own := node.get("config"), dict):
            config = own
        self.decimals = self.decimals or node.get("type") == "decimal"
        if is_own_form(config):
            return {key: self._member(key, each, config) for key, each in node.items()}
        return self._replaced(node, config)

    def _replaced(self, node: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        kind = node.get("type")
        if kind == "bytes":
            self.found = True
            return _base64(node)
        copy = {key: self._member(key, each, config) for key, each in node.items()}
        if kind in ("enum", "literal") and (forms := self._forms(node.get("members") or node.get("expected") or ())):
            self.found = True
            return _before(partial(_restored, forms, self._canonical), copy)
        if kind == "model" and node.get("custom_init") and (readers := self._field_readers(node, config)):
            return _before(partial(_with_fields, readers), copy)
        if kind == "any" and "serialization" not in node:
            self.found = True
            copy["serialization"] = self._any
        elif kind == "model-fields" and config.get("extra_fields_behavior") == "allow":
            copy.setdefault("extras_schema", {"type": "any", "serialization": self._any})
        return copy

    def _member(self, key: str, node: Any, config: Mapping[str, Any]) -> Any:
        if key in _VALUES:
            return node
        if key in _NAMED and isinstance(node, dict):
            return {name: self.schema(each, config) for name, each in node.items()}
        return self.schema(node, config)

    def _forms(self, values: Iterable[Any]) -> dict[bytes, Any]:
        """Return the allowed values by their JSON text; nothing where each is its own JSON form already."""
        plain = [each.value if isinstance(each, Enum) else each for each in values]
        if all(each is None or isinstance(each, (str, int, float)) for each in plain):
            return {}
        try:
            return {
                self._canonical(msgspec.json.decode(self._canonical(value))): each
                for value, each in zip(plain, values, strict=True)
            }
        except (TypeError, ValueError):
            return {}

    def _field_readers(self, node: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Callable[[Any], Any]]:
        """Return what reads those members of a model with an ``__init__`` of its own that pydantic reads otherwise.

        Such a model validates what its ``__init__`` hands on by the class's own rules.
        """
        inner: Any = node["schema"]
        while isinstance(inner, dict) and inner.get("type") != "model-fields":
            inner = inner.get("schema")
        readers: dict[str, Callable[[Any], Any]] = {}
        for name, field in (inner or {}).get("fields", {}).items():
            copied = _Copy(self._to_jsonable)
            schema = copied.schema(field["schema"], config)
            if copied.found:
                with suppress(SchemaError):  # it refers to a definition elsewhere
                    alias = field.get("validation_alias")
                    load = SchemaValidator(schema, _CONFIG, _use_prebuilt=False).validate_python
                    readers[alias if isinstance(alias, str) else name] = load
        return readers


def is_own_form(config: Mapping[str, Any]) -> bool:
    """Whether a model says itself in which form its bytes are read or written."""
    return any(config.get(name) for name in ("val_json_bytes", "ser_json_bytes"))


def is_encoded(node: Any) -> bool:
    """Whether a schema says itself in which form bytes come, as that of `pydantic.Base64Bytes` does."""
    function = node.get("function")
    return isinstance(function, dict) and isinstance(getattr(function["function"], "__self__", None), EncodedBytes)


def _base64(node: Mapping[str, Any]) -> dict[str, Any]:
    return _before(_decoded, {**node, "serialization": node.get("serialization", _BYTES)})


def _before(function: Callable[[Any], Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that gives its input to a function first."""
    outer = {key: node[key] for key in ("ref", "serialization") if key in node}
    inner = {key: each for key, each in node.items() if key not in outer}
    return {"type": "function-before", "function": {"type": "no-info", "function": function}, "schema": inner, **outer}


def _with_fields(readers: Mapping[str, Callable[[Any], Any]], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    try:
        return value | {name: load(value[name]) for name, load in readers.items() if name in value}
    except PydanticError as exc:  # its own text repeats the value
        first = exc.errors(include_input=False, include_url=False)[0]
        raise PydanticCustomError(first["type"], "{reason}", {"reason": first["msg"]}) from None


def _restored(forms: Mapping[bytes, Any], canonical: Callable[[Any], bytes], value: Any) -> Any:
    try:
        return forms.get(canonical(value), value)
    except (TypeError, ValueError):
        return value


def _decoded(value: Any) -> Any:
    """Return the bytes of a base64 text, in either alphabet, with or without padding."""
    if not isinstance(value, str):
        return value
    try:
        text = value.translate(_URL_SAFE)
        return base64.b64decode(text + "=" * (-len(text) % 4) if not text.endswith("=") else text, validate=True)
    except (binascii.Error, ValueError) as exc:
        reason = {"encoding": "base64", "encoding_error": str(exc)}
        raise PydanticKnownError("bytes_invalid_encoding", reason) from None


def _encoded(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else value


def _plain(to_jsonable: Hook, value: Any) -> Any:
    return msgspec.to_builtins(value, enc_hook=to_jsonable, str_keys=True)


_BYTES = {"type": "function-plain", "function": _encoded, "when_used": "json"}


@lru_cache(maxsize=4096)
def model_codec(cls: type, to_jsonable: Hook) -> Codec | None:
    """Return what writes the instances of a model; None where that does not write them as pydantic does."""
    if not issubclass(cls, BaseModel) or cls.model_dump is not BaseModel.model_dump:
        return None
    try:
        return Codec(TypeAdapter(cls), to_jsonable)
    except Exception:  # what pydantic knows is still to be seen, in a model that is not complete
        return None
