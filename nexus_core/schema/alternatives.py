"""Finds the alternative of a union that a value was meant for: errors are reported for that one alone."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Branch = Sequence[Any]
    """The errors of one alternative."""

_COUNTED = 50
"""Errors of an alternative that are counted. One with as many is not the one that was meant."""


class Choice:
    """What an ``anyOf`` or ``oneOf`` that no alternative fits says of the value.

    Args:
        error: jsonschema_rs's error.
        schema: The whole schema.

    Attributes:
        meant: The errors of the alternatives that may have been meant, the likeliest first: one, where a discriminator,
            the value's type or the number of errors tells which; none, where the value has the type of none.
        tag: The member that says which alternative is meant, where it is missing or has no such value; or None.
        tags: The values that the member may have.
    """

    def __init__(self, error: Any, schema: Mapping[str, Any]) -> None:
        self._path = list(error.instance_path)
        self._schema = schema
        self.tag: str | None = None
        self.tags: list[Any] = []
        self.meant: list[Branch] = []
        branches: list[Branch] = list(error.kind.context)
        part = _at(schema, error.schema_path[:-1])
        schemas = part.get(error.kind.name)
        self._schemas = schemas if isinstance(schemas, list) else []
        fitting = [index for index, branch in enumerate(branches) if not _is_of_other_type(branch, self._path)]
        if fitting and isinstance(error.instance, dict):
            fitting = self._by_discriminator(part, error.instance, fitting)
            fitting = self._by_tags(branches, fitting)
        ranks = {index: self._rank(index, branches[index], error.instance) for index in fitting}
        best = min(ranks.values(), default=None)
        self.meant = [branches[index] for index in fitting if ranks[index] == best]

    def _by_discriminator(self, part: Mapping[str, Any], value: Mapping[str, Any], fitting: list[int]) -> list[int]:
        """Return the alternative that the declared discriminator names."""
        discriminator = part.get("discriminator")
        name = discriminator.get("propertyName") if isinstance(discriminator, dict) else None
        mapping = discriminator.get("mapping") if isinstance(discriminator, dict) else None
        if not isinstance(name, str) or not isinstance(mapping, dict):
            return fitting
        tag = value.get(name)
        reference = mapping.get(tag) if isinstance(tag, str) else None
        found = [i for i, each in enumerate(self._schemas) if isinstance(each, dict) and each.get("$ref") == reference]
        if reference is None or not found:
            self.tag, self.tags = name, list(mapping)
            return []
        return found

    def _by_tags(self, branches: Sequence[Branch], fitting: list[int]) -> list[int]:
        """Leave out the alternatives whose members with one allowed value have another here."""
        refused = {index: refused for index in fitting if (refused := self._refused_tags(branches[index]))}
        if len(refused) < len(fitting):
            return [index for index in fitting if index not in refused]
        names = {name for each in refused.values() for name in each}
        if len(fitting) > 1 and len(names) == 1:
            self.tag = names.pop()
            self.tags = list(dict.fromkeys(tag for each in refused.values() for tag in each[self.tag]))
            return []
        return fitting

    def _refused_tags(self, branch: Branch) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for error in branch:
            path = list(error.instance_path)
            if error.kind.name in ("const", "enum") and path[:-1] == self._path and isinstance(path[-1], str):
                found[path[-1]] = [error.kind.expected_value] if error.kind.name == "const" else error.kind.options
        return found

    def _rank(self, index: int, branch: Branch, value: Any) -> tuple[int, int]:
        """Return how far a value is from an alternative: by errors, then by members that it does not know."""
        properties: Any = {}
        if index < len(self._schemas):
            properties = _resolved(self._schemas[index], self._schema).get("properties")
        known = properties if isinstance(properties, dict) else {}
        return _count(branch), len(value.keys() - known.keys()) if isinstance(value, dict) else 0


def _is_of_other_type(branch: Branch, path: list[Any]) -> bool:
    """Whether a value has not the type, or is not the constant, that an alternative is."""
    for error in branch:
        if list(error.instance_path) == path:
            kind = error.kind.name
            if kind in ("type", "const", "enum"):
                return True
            if kind in ("anyOf", "oneOf") and all(_is_of_other_type(each, path) for each in error.kind.context):
                return True
    return False


def _count(branch: Branch) -> int:
    total = 0
    for error in islice(branch, _COUNTED):
        kind = error.kind
        if kind.name in ("anyOf", "oneOf"):
            total += min((_count(each) for each in kind.context), default=1)
        else:
            total += len(kind.unexpected) if hasattr(kind, "unexpected") else 1
    return total


def _at(schema: Any, path: Sequence[Any]) -> Mapping[str, Any]:
    for step in path:
        schema = schema[step]
    return schema if isinstance(schema, dict) else {}


def _resolved(part: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a subschema, or what its reference leads to within the document."""
    reference = part.get("$ref") if isinstance(part, dict) else None
    if isinstance(reference, str) and reference.startswith("#/"):
        part = schema
        for step in reference.removeprefix("#/").split("/"):
            part = part.get(step) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else {}
