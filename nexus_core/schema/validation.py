"""Checks values against a JSON Schema."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

import jsonschema_rs

from nexus_core.errors import ConfigurationError, ValidationError
from nexus_core.schema.excerpts import CHECKED, REPORTED, excerpts
from nexus_core.schema.patterns import BACKTRACKING, LINEAR, bounded
from nexus_core.schema.report import entries, pointer, summary
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core.schema.excerpts import Excerpt

MAX_ERRORS = 50
"""Wrong fields named in one reply."""

MAX_REPORTS = 3
"""Parts of a large value that are reported on, before error reporting gives up."""

_OF_CUTTING = frozenset({"required", "minItems", "minProperties", "contains", "minContains", "dependentRequired"})
"""What a part of a value may not fit where the whole does."""

_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:([0-5]\d|60)(\.\d{1,9})?)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)?", re.ASCII)
_DURATION = re.compile(r"[+-]?P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d{1,9})?S)?)?)", re.ASCII)


def _refuse_remote(uri: str) -> NoReturn:
    raise ValueError(f"a schema may not refer to {uri}")  # else a $ref would make the server fetch any address


def _is_time(text: str) -> bool:
    return _TIME.fullmatch(text) is not None


def _is_date_time(text: str) -> bool:
    return _DATE.fullmatch(text[:10]) is not None and text[10:11] in ("T", "t", " ") and _is_time(text[11:])


def _is_duration(text: str) -> bool:
    return _DURATION.fullmatch(text) is not None


FORMATS = {"date-time": _is_date_time, "time": _is_time, "duration": _is_duration}
"""Formats that are read as Python's types write them, which RFC 3339 does not allow: ``datetime`` and ``time`` without
an offset, ``timedelta`` with a sign and a fraction. Which of them it takes is for a workflow's hints to say."""


def _compiled(schema: Any) -> tuple[Any, jsonschema_rs.Draft202012Validator]:
    def compiled(schema: Any, patterns: jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions) -> Any:
        return jsonschema_rs.Draft202012Validator(
            schema, validate_formats=True, formats=FORMATS, mask="the value", retriever=_refuse_remote,
            pattern_options=patterns,
        )  # fmt: skip

    try:
        return schema, compiled(schema, LINEAR)
    except (ValueError, jsonschema_rs.ValidationError):  # a pattern that this engine does not have, or another reason
        schema = bounded(schema)
        return schema, compiled(schema, BACKTRACKING)


class Validator:
    """A compiled schema. Its patterns take no text that makes them run for long, see `nexus_core.schema.patterns`.

    Raises:
        ConfigurationError: The schema is not valid JSON Schema, or refers to another document.
    """

    __slots__ = ("_has_alternatives", "_is_valid", "_schema", "_validator")

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            self._schema, self._validator = _compiled(schema)
        except jsonschema_rs.ValidationError as exc:
            place = pointer(exc.instance_path)
            raise ConfigurationError(f"The JSON Schema is not valid at {place or '/'}: {exc.message}.") from None
        except (ValueError, jsonschema_rs.ReferencingError) as exc:
            raise ConfigurationError(f"The JSON Schema is not valid: {printable(str(exc), 300)}.") from None
        self._is_valid = self._validator.is_valid
        text = str(self._schema)  # an error of theirs brings along all errors of each
        self._has_alternatives = any(f"'{name}'" in text for name in ("anyOf", "oneOf"))

    def check(self, params: dict[str, Any]) -> None:
        """Check parameters.

        Raises:
            ValidationError: They do not fit. Its ``errors`` name each wrong field by JSON pointer (RFC 6901).
        """
        try:
            if self._is_valid(params):
                return
        except (ValueError, RecursionError):  # not JSON: a key that is no string, a set, a lone surrogate
            pass
        errors = self.errors(params)
        raise ValidationError(summary(errors), errors=errors)

    def errors(self, value: Any) -> list[dict[str, Any]]:
        """Return the errors, field by field, at most `MAX_ERRORS` entries; nothing for a value that fits.

        Of a value too large to check whole, the errors in a part of it.
        """
        try:
            return [] if self._is_valid(value) else self._report(value)
        except (ValueError, RecursionError) as exc:
            return [{"pointer": "", "message": f"not a JSON value: {printable(str(exc))}"}]

    def _report(self, value: Any) -> list[dict[str, Any]]:
        reports = 0
        for part, within in self._wrong_parts(value):
            if found := list(islice(self._entries(part, within), MAX_ERRORS)):
                return found
            reports += 1
            if reports == MAX_REPORTS:
                break
        if not self._has_alternatives:
            return list(islice(self._first(value), MAX_ERRORS))
        return [{"pointer": "", "message": "does not fit the schema, and is too large to tell where"}]

    def _wrong_parts(self, value: Any) -> Iterator[tuple[Excerpt, Excerpt]]:
        """Yield parts of a value that do not fit, each with the larger one that it is of."""
        for within in excerpts(value, CHECKED):
            if not self._is_valid(within.value):
                for part in excerpts(within.value, REPORTED):
                    if not self._is_valid(part.value):
                        yield part, within

    def _entries(self, part: Excerpt, within: Excerpt) -> Iterator[dict[str, Any]]:
        for error in self._validator.iter_errors(part.value):
            path = error.instance_path
            if error.kind.name in _OF_CUTTING and (part.is_cut(path) or within.is_cut(path)):
                continue
            for entry in entries(error, self._schema):
                yield entry | {"pointer": within.original(part.original(entry["pointer"]))}

    def _first(self, value: Any) -> Iterator[dict[str, Any]]:
        """Yield what the first error is about, without looking for others."""
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as exc:
            yield from entries(exc, self._schema)
