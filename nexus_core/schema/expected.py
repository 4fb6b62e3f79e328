"""JSON Schema from ``metadata["expected_parameters"]``: ``{"name": {"type": "object", "required": True}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus_core.errors import ConfigurationError
from nexus_core.schema.validation import Validator

_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
_PYTHON_TYPES = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "dict": "object", "list": "array",
    "tuple": "array", "set": "array", "NoneType": "null",
}  # fmt: skip


def from_expected_parameters(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with the expected parameters and no others.

    Each value is a JSON Schema, in which ``"required": True`` says that the parameter must be given. ``type`` may
    be one of Python's types too, or its name. The same holds for an object's ``properties`` and an array's ``items``.

    Raises:
        ConfigurationError: An entry is not a schema. The message names it.
    """
    if not isinstance(expected, Mapping):
        raise ConfigurationError("expected_parameters must be a mapping of names to schemas.")
    for name, entry in expected.items():
        if not isinstance(name, str) or not isinstance(entry, Mapping):
            raise ConfigurationError(
                f"expected_parameters[{name!r}]: names must be strings, and their schemas mappings such as "
                "{'type': 'string'}."
            )
    properties = {name: _translated(entry, f"expected_parameters[{name!r}]") for name, entry in expected.items()}
    for name, schema in properties.items():
        try:
            Validator(schema)
        except ConfigurationError as exc:
            raise ConfigurationError(f"expected_parameters[{name!r}]: {exc}") from None
    return {
        "type": "object",
        "properties": properties,
        "required": _required(expected),
        "additionalProperties": False,
    }


def _required(entries: Mapping[str, Any]) -> list[str]:
    return [name for name, entry in entries.items() if isinstance(entry, Mapping) and entry.get("required") is True]


def _translated(entry: Any, where: str) -> Any:
    """Return an entry as the JSON Schema it stands for."""
    if not isinstance(entry, Mapping):
        return entry  # JSON Schema has true and false
    schema = dict(entry)
    if isinstance(schema.get("required"), bool):
        del schema["required"]
    if isinstance(kinds := schema.get("type"), list):
        schema["type"] = [_type(kind, where) for kind in kinds]
    elif kinds is not None:
        schema["type"] = _type(kinds, where)
    if isinstance(entries := schema.get("properties"), Mapping):
        schema["properties"] = {name: _translated(each, f"{where}[{name!r}]") for name, each in entries.items()}
        if required := _required(entries):
            schema["required"] = [*dict.fromkeys([*schema.get("required", ()), *required])]
    if "items" in schema:
        schema["items"] = _translated(schema["items"], f"{where}['items']")
    return schema


def _type(kind: Any, where: str) -> str:
    name = kind.__name__ if isinstance(kind, type) else kind
    name = _PYTHON_TYPES.get(name, name) if isinstance(name, str) else name
    if name not in _TYPES:
        raise ConfigurationError(f"{where}: {kind!r} is not a type; use {', '.join(_TYPES)}, or omit it for any type.")
    return name
