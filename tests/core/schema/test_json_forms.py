"""What adapters and plugins use for schemas and JSON: the same as functions get."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import doctest
import enum
import types
import typing
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus_core import (
    ConfigurationError,
    Context,
    FunctionForm,
    JsonForm,
    ValidationError,
    input_schema_of,
    jsontext,
    output_schema_of,
    schema_of,
)
from nexus_core.schema import json_form
from nexus_core.workflows import function_form


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Order:
    item: str
    due: datetime.date
    price: decimal.Decimal
    data: bytes = b""


class Customer(pydantic.BaseModel):
    first_name: str = pydantic.Field(alias="firstName", min_length=1)
    born: datetime.date | None = None
    seal: bytes = b""


class Point(msgspec.Struct, rename="camel"):
    left_side: int
    colour: Colour = Colour.RED
    marks: set[int] = set()


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
DATES = st.dates()
TIMES = st.datetimes(timezones=st.none() | st.just(datetime.UTC))
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=4)
INTS = st.integers(-(2**53), 2**53)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
COLOURS = st.sampled_from(Colour)
ORDERS = st.builds(Order, TEXT, DATES, DECIMALS, st.binary(max_size=20))
CUSTOMERS = st.builds(
    Customer, firstName=TEXT.filter(bool), born=st.none() | DATES, seal=st.binary(max_size=9)
)  # fmt: skip
POINTS = st.builds(Point, INTS, COLOURS, st.sets(INTS, max_size=4))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: INTS,
    float: FLOATS,
    str: TEXT,
    bytes: st.binary(max_size=20),
    datetime.date: DATES,
    datetime.datetime: TIMES,
    datetime.time: st.times(),
    datetime.timedelta: st.timedeltas(datetime.timedelta(days=-9999), datetime.timedelta(days=9999)),
    decimal.Decimal: DECIMALS,
    uuid.UUID: st.uuids(),
    Path: st.sampled_from([Path("a"), Path("/a/b"), Path()]),
    Colour: COLOURS,
    Place: st.builds(Place, INTS, FLOATS),
    Literal["low", 3]: st.sampled_from(["low", 3]),
    Order: ORDERS,
    Customer: CUSTOMERS,
    Point: POINTS,
    Any: st.recursive(st.none() | st.booleans() | INTS | FLOATS | TEXT, st.lists, max_leaves=5),
}
HINTS = list(VALUES)


def _nested(pair: tuple[Any, st.SearchStrategy[Any]], kind: str) -> tuple[Any, st.SearchStrategy[Any]]:
    hint, values = pair
    match kind:
        case "list":
            return types.GenericAlias(list, (hint,)), st.lists(values, max_size=3)
        case "dict":
            return types.GenericAlias(dict, (str, hint)), st.dictionaries(TEXT, values, max_size=3)
        case "tuple":
            return types.GenericAlias(tuple, (hint, int)), st.tuples(values, INTS)
        case _:
            return typing.Union.__getitem__((hint, None)), st.none() | values


@st.composite
def hints_with_values(draw: st.DrawFn) -> tuple[Any, Any]:
    hint = draw(st.sampled_from(HINTS))
    pair = (hint, VALUES[hint])
    for kind in draw(st.lists(st.sampled_from(["list", "dict", "tuple", "optional"]), max_size=2)):
        pair = _nested(pair, kind)
    return pair[0], draw(pair[1])


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    jsonschema.Draft202012Validator.check_schema(schema)
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hints_with_values())
def test_a_value_goes_to_json_and_back(pair: tuple[Any, Any]) -> None:
    hint, value = pair
    form = JsonForm(hint)
    written = jsontext.parse(form.write(value))
    assert _fits(written, form.output_schema)
    assert _fits(written, form.schema)
    read = form.read(written)
    assert read == value
    assert type(read) is type(value) or hint in (float, Any) or value is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT
    | st.sampled_from(["2026-12-01", "0000-01-01", "P1D", "P9999999999D", "12:00:60", "24:00", "1e999", "YQ", "YQ==="])
    | st.dates().map(str) | st.uuids().map(str) | DECIMALS.map(str) | TIMES.map(str),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(TEXT | st.sampled_from(["item", "due", "price", "firstName", "leftSide"]), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HINTS), JSON)
def test_what_the_schema_takes_is_read_and_comes_back_or_is_refused_by_name(hint: Any, value: Any) -> None:
    read, error = _read(JsonForm(hint, "it"), value)
    if error is not None:
        assert all(each["pointer"].startswith("/it") for each in error.errors)
    else:
        form = JsonForm(hint, "it")
        assert _fits(value, form.schema)
        assert form.read(jsontext.parse(form.write(read))) == read


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(HINTS), JSON)
def test_a_function_and_an_adapter_take_the_same(hint: Any, value: Any) -> None:
    def function(it: Any) -> None: ...

    function.__annotations__["it"] = hint
    form = FunctionForm(function)
    read, error = _read(JsonForm(hint, "it"), value)
    if error is None:
        assert form.arguments(form.prepare({"it": value})) == ([], {"it": read})
    else:
        with pytest.raises(ValidationError) as refused:
            form.prepare({"it": value})
        assert refused.value.errors == error.errors


def _read(form: JsonForm, value: Any) -> tuple[Any, ValidationError | None]:
    try:
        return form.read(value), None
    except ValidationError as error:
        return None, error


def test_a_function_is_called_with_what_callers_send() -> None:
    def ship(
        order: Order, /, context: Context, to: Annotated[str, pydantic.Field(alias="recipient")] = "me", **more: int
    ) -> list[Customer]:
        """Ship an order.

        Args:
            order: What was ordered.
        """
        return [Customer(firstName=to)]

    form = FunctionForm(ship)
    assert form.description == "Ship an order."
    assert form.takes_context
    assert form.reads_decimals
    assert form.input_schema["required"] == ["order"]
    assert form.input_schema["properties"]["recipient"] == {"type": "string", "default": "me"}
    assert input_schema_of(ship) == form.input_schema
    assert output_schema_of(ship) == form.output_schema
    params = {"order": {"item": "a", "due": "2026-12-01", "price": 1.5}, "recipient": "you", "n": 1}
    positional, named = form.arguments(form.prepare(params), context=None)
    assert positional == [Order("a", datetime.date(2026, 12, 1), decimal.Decimal("1.5"))]
    assert named == {"to": "you", "context": None, "n": 1}
    assert form.write(ship(*positional, **named)) == b'[{"firstName":"you","born":null,"seal":""}]'
    with pytest.raises(ValidationError) as refused:
        form.prepare({"order": {"item": "a", "due": "2026-02-30", "price": 1}})
    assert [each["pointer"] for each in refused.value.errors] == ["/order/due"]


class Opaque:
    pass


class Array:
    """Is written as numpy's arrays and scalars are."""

    def tolist(self) -> list[int]:
        return [0, 1, 2]


@pytest.mark.parametrize("hint", [Opaque, list[Opaque], dict[str, Opaque | int], typing.Callable[[], int]])
def test_a_hint_without_a_json_form_is_named_with_its_parameter(hint: Any) -> None:
    def work(fine: int, thing: Any) -> None: ...

    work.__annotations__["thing"] = hint
    for ask in (lambda: schema_of(hint, "thing"), lambda: JsonForm(hint, "thing"), lambda: input_schema_of(work)):
        with pytest.raises(ConfigurationError) as refused:
            ask()
        assert f"annotation of thing ({hint!r}) has no JSON form" in str(refused.value)
    assert str(refused.value).startswith("work: ")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({1}, [1]),
        ({1.5: 2, Colour.RED: 3}, {"1.5": 2, "red": 3}),
        (Place(1, 2.0), [1, 2.0]),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.timedelta(days=1.5), "P1DT43200S"),
        (b"ab", "YWI="),
        (memoryview(b"ab"), "YWI="),
        (pydantic.SecretStr("hidden"), "**********"),
        (msgspec.Raw(b"[1]"), [1]),
        (Array(), [0, 1, 2]),
        (Point(1), {"leftSide": 1, "colour": "red", "marks": []}),
        (Customer(firstName="a"), {"firstName": "a", "born": None, "seal": ""}),
    ],
)
def test_the_table_of_the_one_conversion_holds(value: Any, written: Any) -> None:
    assert jsontext.plain(value) == written
    assert jsontext.parse(jsontext.encode([value])) == [written]


@pytest.mark.parametrize("value", [Opaque(), 1j, iter([1]), range(3), float("nan"), {True: 1}, {None: 1}, {(1,): 1}])
def test_what_the_table_lacks_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"is not supported|is not finite"):
        jsontext.plain(value)


@pytest.mark.parametrize("module", [json_form, function_form], ids=lambda module: module.__name__)
def test_the_examples_of_docstrings_hold(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
