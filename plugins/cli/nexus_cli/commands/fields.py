"""Converts ``--field value`` arguments to parameters, by the workflow's input schema.

Nothing is validated here: a word that does not parse as its field's type stays text, and the pipeline reports it, as on
every other channel.
"""

from __future__ import annotations

import itertools
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nexus_cli.backends.backend import utf8
from nexus_cli.options import UsageError
from nexus_core.errors import MalformedRequest
from nexus_core.jsontext import exactly, parse
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int, float), "number": (int, float, Decimal), "boolean": (bool,), "array": (list,), "object": (dict,),
}  # fmt: skip
_TYPE_OF = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class Fields:
    """The fields of one workflow.

    Args:
        schema: Its input schema.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        properties = self.resolve(schema).get("properties")
        self.properties: dict[str, Any] = properties if isinstance(properties, dict) else {}

    @property
    def whole(self) -> dict[str, Any]:
        """The schema itself, with its ``$ref`` resolved."""
        return self.resolve(dict(self._schema))

    def schema_of(self, name: str) -> Any:
        """Return the schema of a field; of an unknown one, ``additionalProperties``."""
        found = self.properties.get(name)
        return self.whole.get("additionalProperties") if found is None else found

    def resolve(self, schema: Any) -> dict[str, Any]:
        """Return a subschema with its ``$ref`` resolved."""
        for _ in range(8):  # references may chain, but must end
            if not isinstance(schema, dict):
                return {}
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                return schema
            found: Any = self._schema
            for step in reference.removeprefix("#/").split("/"):
                found = found.get(step) if isinstance(found, dict) else None
            schema = {**(found if isinstance(found, dict) else {}), **{k: v for k, v in schema.items() if k != "$ref"}}
        return {}

    def types(self, schema: Any) -> list[str]:
        """Return the JSON types that a subschema allows; an empty list for any type."""
        resolved = self.resolve(schema)
        kind = resolved.get("type")
        if isinstance(kind, str):
            return [kind]
        if isinstance(kind, list):
            return [each for each in kind if isinstance(each, str)]
        for name in ("anyOf", "oneOf", "allOf"):
            if isinstance(resolved.get(name), list):
                return list(dict.fromkeys(t for part in resolved[name] for t in self.types(part)))
        values = resolved.get("enum") or ([resolved["const"]] if "const" in resolved else [])
        return list(dict.fromkeys(_TYPE_OF.get(type(value), "null") for value in values))

    def items(self, schema: Any, index: int = 0) -> Any:
        """Return the schema of an array's item."""
        resolved = self.resolve(schema)
        for part in [resolved, *(self.resolve(p) for n in ("anyOf", "oneOf") for p in resolved.get(n) or ())]:
            prefix = part.get("prefixItems")
            if isinstance(prefix, list) and index < len(prefix):
                return prefix[index]
            if isinstance(part.get("items"), dict):
                return part["items"]
        return {}

    def is_flag(self, name: str) -> bool:
        """Whether a field is boolean, so that ``--name`` alone means true."""
        return "boolean" in (types := self.types(self.schema_of(name))) and set(types) <= {"boolean", "null"}

    def is_list(self, name: str) -> bool:
        """Whether a field's option may be repeated."""
        types = self.types(self.schema_of(name))
        return "array" in types and set(types) <= {"array", "null"}

    def find(self, word: str) -> str:
        """Return the field of an option: ``--dry-run`` is ``dry_run`` too."""
        if word in self.properties:
            return word
        return next((name for name in self.properties if name.replace("_", "-") == word.replace("_", "-")), word)

    def read(self, words: list[str]) -> dict[str, Any]:
        """Return the parameters in words such as ``["--a", "3", "--flag"]``.

        Raises:
            UsageError: A word is not part of an option.
            MalformedRequest: A word is not UTF-8.
        """
        params: dict[str, Any] = {}
        texts: dict[str, list[str]] = {}
        for name, text in self._pairs(words):
            if isinstance(text, bool):
                params[name] = text
            elif self.is_list(name):
                texts.setdefault(name, []).append(text)
            else:
                params[name] = self.value(text, self.schema_of(name))
        return params | {name: self._array(each, self.schema_of(name)) for name, each in texts.items()}

    def _pairs(self, words: list[str]) -> Iterator[tuple[str, str | bool]]:
        queue = list(words)
        while queue:
            word = utf8(queue.pop(0))
            if not word.startswith("--") or len(word) < 3:
                raise UsageError(
                    f"Unexpected argument {printable(word)!r}: parameters are --name value, or --data JSON."
                )
            given, equals, text = word[2:].partition("=")
            name = self.find(given)
            if equals:
                yield name, text
            elif self.is_flag(name):
                yield name, queue.pop(0) if queue[:1] in (["true"], ["false"]) else True
            elif given.startswith("no-") and self.is_flag(positive := self.find(given[3:])):
                yield positive, False
            elif queue and not queue[0].startswith("--"):
                yield name, utf8(queue.pop(0))
            elif name in self.properties:
                raise UsageError(
                    f"Option --{printable(given)} needs a value; write --{printable(given)}=VALUE if it starts with --."
                )
            else:
                yield name, True

    def value(self, text: str, schema: Any) -> Any:
        """Return a word converted to its field's type, or unchanged."""
        types = self.types(schema)
        parsed = _json(text)
        if parsed is _NOTHING and _NUMBERS.intersection(types) and "string" not in types:
            parsed = _json(_json_number(text))
        if parsed is _NOTHING:
            return text
        if not types:
            return parsed
        for kind in types:
            if kind in _TYPES and isinstance(parsed, _TYPES[kind]) and isinstance(parsed, bool) == (kind == "boolean"):
                return parsed
            if kind == "null" and parsed is None and "string" not in types:
                return None
        return text

    def _array(self, texts: list[str], schema: Any) -> Any:
        """Return repeated values as an array. A single one may be the whole array as JSON."""
        if len(texts) == 1:
            whole = _json(texts[0])
            if whole is None and "null" in self.types(schema):
                return None
            nested = "array" in self.types(self.items(schema))
            if isinstance(whole, list) and (not nested or all(isinstance(each, list) for each in whole)):
                return whole
        return [self.value(text, self.items(schema, index)) for index, text in zip(itertools.count(), texts)]


_NOTHING = object()
_NUMBERS = frozenset({"integer", "number"})
_NUMBER = re.compile(r"([+-]?)(?=\.?[0-9])([0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)


def _json_number(text: str) -> str:
    """Return a number in JSON's syntax, which has no ``.5``, ``+1`` and ``5.``."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return text
    sign, whole, fraction, exponent = found.groups("")
    return f"{sign.strip('+')}{whole.lstrip('0') or '0'}{fraction.rstrip('.')}{exponent}"


def _json(text: str) -> Any:
    try:
        written = text.encode()
        value = parse(written)
        return exactly(written) if type(value) is float or isinstance(value, (list, dict)) else value
    except MalformedRequest:
        return _NOTHING
