"""Patterns of a schema, compiled so that no text makes them run for long.

Patterns run on an engine whose time grows in proportion to the text. It has neither lookaround nor backreferences. A
pattern that needs one of these (pydantic writes some itself, for ``Decimal``) runs on a backtracking engine that stops
after `MAX_STEPS`, on texts of at most `MAX_TEXT` characters.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from nexus_core.errors import ConfigurationError
from nexus_core.schema.references import SCHEMAS_BY_NAME, VALUES

MAX_TEXT = 256
"""Characters of a text that a pattern with lookaround or backreferences is matched against. Longer ones do not fit."""

MAX_STEPS = 10_000
"""Backtracking steps, after which a text does not fit."""

LINEAR = jsonschema_rs.RegexOptions()
BACKTRACKING = jsonschema_rs.FancyRegexOptions(backtrack_limit=MAX_STEPS)


def bounded(schema: Any) -> Any:
    """Return the schema with a bound on the texts that a backtracking pattern is matched against.

    Raises:
        ConfigurationError: A name in ``patternProperties`` needs backtracking: names have no such bound.
    """
    if isinstance(schema, list):
        return [bounded(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _member(key, value) for key, value in schema.items()}
    for pattern in schema.get("patternProperties") or ():
        if isinstance(pattern, str) and not _is_linear(pattern):
            raise ConfigurationError(
                f"The JSON Schema is not valid: patternProperties {pattern!r} is not a pattern without lookaround "
                "and backreferences."
            )
    if isinstance(pattern := schema.get("pattern"), str) and not _is_linear(pattern):
        del result["pattern"]
        long = {"type": "string", "minLength": MAX_TEXT + 1}
        rule = {"if": long, "then": {"maxLength": MAX_TEXT}, "else": {"pattern": pattern}}
        result["allOf"] = [*result.get("allOf", ()), rule]
    return result


def _member(key: str, value: Any) -> Any:
    if key in VALUES:
        return value
    if key in SCHEMAS_BY_NAME and isinstance(value, dict):
        return {name: bounded(each) for name, each in value.items()}
    return bounded(value)


def _is_linear(pattern: str) -> bool:
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=LINEAR)
    except (ValueError, jsonschema_rs.ValidationError):
        return False
    return True
