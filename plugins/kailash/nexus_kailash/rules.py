"""`caller_validator`: a JSON Schema that a caller has sent, held to a bounded amount of work."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from nexus_core import WorkflowError
from nexus_core.errors import ConfigurationError
from nexus_core.jsontext import encode
from nexus_core.schema.references import SCHEMAS_BY_NAME, VALUES
from nexus_core.schema.validation import Validator
from nexus_core.text import printable

MAX_SIZE = 65_536
"""The size of the schema in bytes of JSON."""

MAX_WORK = 10_000_000
"""The size of the data times the size of the schema, each in bytes of JSON. It bounds the time to about a second."""

MAX_DEPTH = 32
"""Levels of nested schemas."""

_PATTERN = jsonschema_rs.RegexOptions(size_limit=20_000)
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def caller_validator(schema: Any, data: Any) -> Validator:
    """Return a validator of a schema that a caller has sent.

    References are refused, since a few of them in one another double the work each time. Patterns have no lookaround
    and no backreferences, so that they run in time proportional to the text.

    Args:
        schema: The caller's schema.
        data: What it is to be applied to.

    Raises:
        WorkflowError: The schema is not valid, or not of the kind that callers may send. The message says why.
    """
    try:
        rules_size, data_size = len(encode(schema)), len(encode(data))
    except (TypeError, ValueError) as exc:
        raise WorkflowError(f"input_data is not valid: {printable(str(exc))}") from None
    if rules_size > MAX_SIZE:
        raise WorkflowError(f"validation_rules: {rules_size} bytes; at most {MAX_SIZE} are supported.")
    _check(schema, MAX_DEPTH)
    if rules_size * data_size > MAX_WORK:
        raise WorkflowError(
            f"validation_rules: {rules_size} bytes of rules are too many for {data_size} bytes of data; the product "
            f"of both is at most {MAX_WORK}."
        )
    try:
        return Validator(schema)
    except ConfigurationError as exc:
        raise WorkflowError(f"validation_rules: {exc}") from None


def _check(schema: Any, depth: int) -> None:
    if depth == 0:
        raise WorkflowError(f"validation_rules: more than {MAX_DEPTH} levels of nested schemas.")
    if isinstance(schema, list):
        for each in schema:
            _check(each, depth - 1)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            _check_member(key, value, depth)


def _check_member(key: str, value: Any, depth: int) -> None:
    if key in _REFERENCES:
        raise WorkflowError(f"validation_rules: {key} is not supported.")
    if key == "pattern":
        _check_pattern(value)
    elif key in SCHEMAS_BY_NAME and isinstance(value, dict):
        for name, each in value.items():
            _check_pattern(name if key == "patternProperties" else None)
            _check(each, depth - 1)
    elif key not in VALUES:
        _check(value, depth - 1)


def _check_pattern(pattern: Any) -> None:
    if not isinstance(pattern, str):
        return
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=_PATTERN)
    except (ValueError, jsonschema_rs.ValidationError):
        raise WorkflowError(
            f"validation_rules: the pattern {printable(pattern)!r} is not valid here: patterns have no lookaround, no "
            "backreferences and no large repetitions."
        ) from None
