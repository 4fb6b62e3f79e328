"""JSON Schema from ``metadata["expected_parameters"]``: ``{"name": {"type": "object", "required": True}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus_core.errors import ConfigurationError
from nexus_core.schema.validation import Validator

_TYPE_NAMES = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "dict": "object", "list": "array",
}  # fmt: skip


def from_expected_parameters(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with the expected parameters and no others.

    Each value is a JSON Schema, in which ``"required": True`` says that the parameter must be given. ``type`` may
    be one of Python's names too.

    Raises:
        ConfigurationError: An entry is not a schema. The message names it.
    """
    if not isinstance(expected, Mapping):
        raise ConfigurationError("expected_parameters must be a mapping of names to schemas.")
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, entry in expected.items():
        if not isinstance(entry, Mapping):
            raise ConfigurationError(f"expected_parameters[{name!r}] must be a mapping such as {{'type': 'string'}}.")
        schema = dict(entry)
        if schema.get("required") is True:
            required.append(name)
        if isinstance(schema.get("required"), bool):
            del schema["required"]
        if isinstance(schema.get("type"), str):
            schema["type"] = _TYPE_NAMES.get(schema["type"], schema["type"])
        try:
            Validator(schema)
        except ConfigurationError as exc:
            raise ConfigurationError(f"expected_parameters[{name!r}]: {exc}") from None
        properties[name] = schema
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
