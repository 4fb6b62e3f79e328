"""Turns a schema violation into what a caller can act on: where, what was expected, the nearest known name.

Messages never repeat the value: it may be huge, or secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core.jsontext import type_name
from nexus_core.schema.alternatives import Choice
from nexus_core.text import nearest, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import jsonschema_rs

_BOUNDS = {
    "minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of", "minLength": "a length of at least", "maxLength": "a length of at most",
    "minItems": "a number of items of at least", "maxItems": "a number of items of at most",
    "minProperties": "a number of members of at least", "maxProperties": "a number of members of at most",
    "pattern": "text that matches", "format": "a valid", "const": "exactly",
}  # fmt: skip


def entries(error: jsonschema_rs.ValidationError, schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one entry for each field that a violation names: ``pointer``, ``message``, ``expected``, ``nearest``."""
    path: list[Any] = list(error.instance_path)
    kind: Any = error.kind  # its members depend on its name
    match kind.name:
        case "required":
            properties = _part(schema, error.schema_path[:-1], "properties")
            yield _entry([*path, kind.property], "missing", expected=_type(properties.get(kind.property)))
        case "additionalProperties" | "unevaluatedProperties":
            known = list(_part(schema, error.schema_path[:-1], "properties"))
            for name in kind.unexpected:
                yield _entry([*path, name], "unknown name", nearest=nearest(name, known))
        case "type":
            yield _entry(path, expected=" or ".join(kind.types), got=type_name(error.instance))
        case "enum":
            options = [option for option in kind.options if isinstance(option, str)]
            near = nearest(error.instance, options) if isinstance(error.instance, str) else None
            yield _entry(path, expected=f"one of {_options(kind.options)}", nearest=near)
        case "pattern" if not hasattr(kind, "pattern"):  # the engine has stopped, see `nexus_core.schema.patterns`
            yield _entry(path, "the text is too complex for the pattern it must match")
        case "anyOf" | "oneOf":
            yield from _alternatives(error, path, schema)
        case name if name in _BOUNDS:
            limit = next(iter(kind.as_dict().values()), "")
            yield _entry(path, expected=f"{_BOUNDS[name]} {printable(str(limit))}")
        case _:
            yield _entry(path, printable(error.message, 300))


def _alternatives(
    error: jsonschema_rs.ValidationError, path: list[Any], schema: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Report on a union: what is wrong with the value as the alternative that was meant, or what there is to choose."""
    choice = Choice(error, schema)
    if choice.tag is not None:
        members: Any = error.instance
        value = members.get(choice.tag)
        near = nearest(value, [tag for tag in choice.tags if isinstance(tag, str)]) if isinstance(value, str) else None
        options = f"one of {_options(choice.tags)}"
        message = "" if choice.tag in members else f"missing: expected {options}"
        yield _entry([*path, choice.tag], message, expected=options, nearest=near)
    elif len(choice.meant) == 1:
        for inner in choice.meant[0]:
            yield from entries(inner, schema)
    elif choice.meant:
        told = [summary([entry for inner in branch for entry in entries(inner, schema)]) for branch in choice.meant[:3]]
        yield _entry(path, printable(f"fits none of the alternatives: {'; or '.join(dict.fromkeys(told))}", 500))
    else:
        kind: Any = error.kind
        branches: Sequence[Sequence[Any]] = kind.context
        found = [entry for branch in branches for inner in branch for entry in entries(inner, schema)]
        expected = dict.fromkeys(part for entry in found for part in entry.get("expected", "").split(" or ") if part)
        near = next((entry["nearest"] for entry in found if "nearest" in entry), None)
        yield _entry(path, expected=" or ".join(expected) or None, got=type_name(error.instance), nearest=near)


def summary(errors: list[dict[str, Any]]) -> str:
    """Return one sentence for several entries: what a person reads on one line."""
    shown = [f"{entry['pointer'] or '/'}: {entry['message']}" for entry in errors[:3]]
    more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
    return f"{'; '.join(shown)}{more}"


def pointer(path: Sequence[Any]) -> str:
    """Return a path as JSON pointer (RFC 6901), on one line and of bounded length."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return printable("".join(f"/{part}" for part in parts), 200)


def _entry(
    path: Sequence[Any], message: str = "", *, expected: str | None = None, got: str | None = None,
    nearest: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    entry: dict[str, Any] = {"pointer": pointer(path)}
    entry["message"] = message or f"expected {expected}" + (f", got {got}" if got else "")
    if expected is not None:
        entry["expected"] = expected
    if nearest is not None:
        entry["message"] += f'; did you mean "{nearest}"?'
        entry["nearest"] = nearest
    return entry


def _part(schema: Any, path: Sequence[str | int], name: str) -> dict[str, Any]:
    """Return the object called ``name`` in the part of a schema that a path leads to; an empty one where it is not."""
    for step in path:
        schema = schema[step]
    found = schema.get(name) if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _type(schema: Any) -> str | None:
    kind = schema.get("type") if isinstance(schema, dict) else None
    return " or ".join(kind) if isinstance(kind, list) else kind


def _options(options: Any) -> str:
    return printable(", ".join(msgspec.json.encode(option).decode() for option in options), 300)
