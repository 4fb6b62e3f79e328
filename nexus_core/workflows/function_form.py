"""`FunctionForm`: a function's parameters and result as JSON. For function workflows, adapters and plugins."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import ValidationError
from nexus_core.schema.conversion import converted
from nexus_core.schema.report import summary
from nexus_core.schema.validation import MAX_ERRORS, Validator
from nexus_core.workflows.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.runs.context import Context


class FunctionForm:
    """What a function takes and gives, as JSON: what Nexus does for a function that is registered as a workflow.

    Example::

        >>> from datetime import date
        >>> from nexus_core import FunctionForm
        >>> def is_due(day: date, within: int = 7) -> bool: return day.year < 2030
        >>> form = FunctionForm(is_due)
        >>> form.input_schema["properties"]["within"]
        {'type': 'integer', 'default': 7}
        >>> form.prepare({"day": "2026-12-01"})
        {'day': datetime.date(2026, 12, 1)}
        >>> positional, named = form.arguments(form.prepare({"day": "2026-12-01"}))
        >>> form.write(is_due(*positional, **named))
        b'true'

    Args:
        function: The function, or another callable with a signature.
        name: What messages call it. Default: its own name.
        expected: ``metadata["expected_parameters"]``, which then takes the place of the hints, or None.

    Attributes:
        function: The callable.
        input_schema: JSON Schema (2020-12) of its parameters: an object that takes no others.
        output_schema: JSON Schema of its result, or of the list of a stream's items; None where no hint says it.
        description: Its docstring without what that says of parameters.
        streams: Whether it gives its result item by item.
        takes_context: Whether one of its parameters takes the `Context`.
        reads_decimals: Whether numbers in its parameters may be more exact than a float.

    Raises:
        ConfigurationError: A hint has no JSON form, or the function can't be called by name. The message names the
            function, the parameter and the hint.
    """

    def __init__(self, function: Callable[..., Any], name: str = "", expected: Mapping[str, Any] | None = None) -> None:
        signature = Signature(name or getattr(function, "__name__", type(function).__name__), function)
        self.function = function
        self.input_schema = signature.expected_schema(expected) if expected else signature.input_schema
        self.output_schema = signature.output_schema
        self.description = signature.description
        self.streams = signature.streams
        self._context_name = signature.context_name
        self.takes_context = signature.context_name is not None
        self._converters = {} if expected else signature.converters
        self._convert_rest = None if expected else signature.convert_rest
        self._converts = any((self._convert_rest, *self._converters.values()))
        self._decimals = frozenset[str]() if expected else signature.decimals
        self._rest_is_decimal = signature.rest_is_decimal and not expected
        self.reads_decimals = bool(self._decimals) or self._rest_is_decimal
        self._names = self.input_schema["properties"].keys()
        self._renamed = {} if expected else signature.renamed
        self._fields = signature.fields
        self._defaults = {key: each["default"] for key, each in (expected or {}).items() if "default" in each}
        self._positional = signature.positional_only
        self._serialize = signature.serialize

    @cached_property
    def _validator(self) -> Validator:
        return Validator(self.input_schema)

    def prepare(self, params: dict[str, Any]) -> dict[str, Any]:
        """Check parameters against the schema and turn them into the annotated types.

        Args:
            params: Their JSON values by name, as `jsontext.parse_object` returns them.

        Raises:
            ValidationError: They do not fit. Its ``errors`` name each wrong field by JSON pointer.
        """
        self._validator.check(params)
        return self.convert(params)

    def convert(self, params: dict[str, Any]) -> dict[str, Any]:
        """Turn parameters that fit the schema into the annotated types.

        Raises:
            ValidationError: One has no such value, such as a day that its month lacks, or fails a check of its type.
        """
        if not self._converts:
            return params
        prepared = dict(params)
        errors: list[dict[str, Any]] = []
        for name, value in params.items():
            convert = self._converters.get(name, self._convert_rest)
            if convert is not None:
                prepared[name] = converted(name, value, convert, errors)
        if errors:
            raise ValidationError(summary(errors), errors=errors[:MAX_ERRORS])
        return prepared

    def with_decimals(self, params: dict[str, Any], exact: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters with exact numbers where hints hold a decimal; see `Workflow.with_decimals`."""
        rest = params.keys() - self._names if self._rest_is_decimal else frozenset[str]()
        return params | {name: exact[name] for name in (*self._decimals, *rest) if name in params and name in exact}

    def arguments(self, params: dict[str, Any], context: Context | None = None) -> tuple[list[Any], dict[str, Any]]:
        """Return what the function is called with: by position, and by name.

        Args:
            params: What `prepare` has returned.
            context: What the parameter for the `Context` gets, if there is one.
        """
        renamed = self._renamed
        arguments = {renamed.get(name, name): value for name, value in params.items()} if renamed else dict(params)
        for name, default in self._defaults.items():
            if name not in arguments:
                arguments[name] = deepcopy(default)
        for name, field in self._fields.items():
            if name not in arguments:
                arguments[name] = field.get_default(call_default_factory=True, validated_data=arguments)
        if self._context_name is not None:
            arguments[self._context_name] = context
        return [arguments.pop(name, default) for name, default in self._positional], arguments

    def result(self, value: Any) -> Any:
        """Return a result, or an item of a stream, as its hint says that it is written: under aliases and the like."""
        return value if self._serialize is None else self._serialize(value)

    def write(self, value: Any) -> bytes:
        """Return the JSON text of a result, or of an item of a stream.

        Raises:
            TypeError, ValueError: Something in it has no JSON form.
        """
        return jsontext.encode(self.result(value))


def input_schema_of(function: Callable[..., Any], name: str = "") -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a function's parameters, from its signature, hints and docstring.

    Example::

        >>> from nexus_core import input_schema_of
        >>> def greet(name: str, times: int = 1): "Greet a user."
        >>> input_schema_of(greet)["required"]
        ['name']

    Args:
        function: The function.
        name: What messages call it. Default: its own name.

    Raises:
        ConfigurationError: A hint has no JSON form. The message names the function, the parameter and the hint.
    """
    return FunctionForm(function, name).input_schema


def output_schema_of(function: Callable[..., Any], name: str = "") -> dict[str, Any] | None:
    """Return the JSON Schema of a function's result, or None where no hint says what it is.

    Args:
        function: The function.
        name: What messages call it. Default: its own name.

    Raises:
        ConfigurationError: As for `input_schema_of`.
    """
    return FunctionForm(function, name).output_schema
