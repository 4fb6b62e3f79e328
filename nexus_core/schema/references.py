"""Moves a schema into a larger document, so that what it refers to is found there."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFINITIONS = "#/$defs/"
SCHEMAS_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
"""Keywords with a mapping from names to schemas: any name may be there, a keyword's too."""

VALUES = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data: what looks like a reference is not one."""


def move_schema(schema: Mapping[str, Any], place: str, definitions: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a schema from its ``$defs`` and let its references point to where both will be.

    Args:
        schema: A schema whose references are to its own document: ``#``, ``#/properties/a``, ``#/$defs/Name``.
        place: The reference to where the schema itself will be, such as ``#/properties/result``.
        definitions: What will stand before a definition's name in references: ``#/components/schemas/order.``.

    Returns:
        The schema without ``$defs``, and the definitions by their old names. Neither is shared with the original.
    """
    moved = _Move(place, definitions).schema(schema)
    return moved, moved.pop("$defs", {})


class _Move:
    def __init__(self, place: str, definitions: str) -> None:
        self._place = place
        self._definitions = definitions

    def schema(self, schema: Any) -> Any:
        """Return a copy of a schema, of a list of schemas, or of what stands in their place."""
        if isinstance(schema, dict):
            return {key: self._member(key, value) for key, value in schema.items()}
        if isinstance(schema, list):
            return [self.schema(each) for each in schema]
        return schema

    def _member(self, key: str, value: Any) -> Any:
        if key == "$ref":
            return self._reference(value)
        if key in VALUES:
            return deepcopy(value)
        if not isinstance(value, dict):
            return self.schema(value)
        if key in SCHEMAS_BY_NAME:
            return {name: self.schema(each) for name, each in value.items()}
        if key == "discriminator" and isinstance(mapping := value.get("mapping"), dict):  # OpenAPI's; pydantic has it
            return {**value, "mapping": {name: self._reference(each) for name, each in mapping.items()}}
        return self.schema(value)

    def _reference(self, reference: Any) -> Any:
        if not isinstance(reference, str):
            return reference
        if reference.startswith(_DEFINITIONS):
            return self._definitions + reference.removeprefix(_DEFINITIONS)
        return self._place + reference[1:] if reference == "#" or reference.startswith("#/") else reference
