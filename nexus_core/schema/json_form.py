"""`JsonForm`: a type hint as JSON Schema, and its values from and to JSON. For adapters and plugins too."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from nexus_core import jsontext
from nexus_core.errors import ValidationError
from nexus_core.schema.conversion import converted
from nexus_core.schema.hints import Hints
from nexus_core.schema.report import pointer, summary
from nexus_core.schema.validation import MAX_ERRORS, Validator


class JsonForm:
    """How values of a type hint look in JSON: the same way in parameters of functions and in their results.

    Example::

        >>> from datetime import date
        >>> from nexus_core import JsonForm
        >>> form = JsonForm(list[date], "days")
        >>> form.schema
        {'type': 'array', 'items': {'type': 'string', 'format': 'date'}}
        >>> form.read(["2026-12-01"])
        [datetime.date(2026, 12, 1)]
        >>> form.write([date(2026, 12, 1)])
        b'["2026-12-01"]'

    Args:
        hint: The type hint: whatever a parameter of a workflow may be annotated with.
        name: What messages call it: the parameter's name.

    Attributes:
        name: What messages call it.
        schema: JSON Schema (2020-12) of what `read` takes. It is a complete document, with ``$defs`` where needed.
        output_schema: JSON Schema of what `write` gives: another one where a type is written otherwise than it is read.

    Raises:
        ConfigurationError: The hint has no JSON form. The message names it, and the parameter.
    """

    def __init__(self, hint: Any, name: str = "value") -> None:
        self.name = name
        self._hint = hint
        hints = Hints({name: hint})
        self.schema = hints.document(name)
        self._convert = hints.converter(name)
        self._serialize = hints.serializer(name)

    @cached_property
    def output_schema(self) -> dict[str, Any]:  # noqa: D102  (described above)
        return Hints({self.name: self._hint}, "serialization").document(self.name)

    @cached_property
    def _validator(self) -> Validator:
        return Validator(self.schema)

    def read(self, value: Any) -> Any:
        """Check a JSON value and return it as the type.

        Args:
            value: A value as `jsontext.parse` returns it.

        Raises:
            ValidationError: It does not fit. Its ``errors`` name each wrong field by JSON pointer, under the name.
        """
        errors = [each | {"pointer": pointer([self.name]) + each["pointer"]} for each in self._validator.errors(value)]
        if not errors and self._convert is not None:
            value = converted(self.name, value, self._convert, errors)
        if errors:
            raise ValidationError(summary(errors), errors=errors[:MAX_ERRORS])
        return value

    def write(self, value: Any) -> bytes:
        """Return the JSON text of a value of the type.

        Raises:
            TypeError, ValueError: Something in it has no JSON form.
        """
        return jsontext.encode(value if self._serialize is None else self._serialize(value))


def schema_of(hint: Any, name: str = "value") -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the values that a type hint takes, with its own ``$defs``.

    Example::

        >>> from typing import Literal
        >>> from nexus_core import schema_of
        >>> schema_of(Literal["low", "high"] | None)
        {'anyOf': [{'enum': ['low', 'high'], 'type': 'string'}, {'type': 'null'}]}

    Args:
        hint: The type hint.
        name: What messages call it: the parameter's name.

    Raises:
        ConfigurationError: The hint has no JSON form. The message names it, and the parameter.
    """
    return Hints({name: hint}).document(name)
