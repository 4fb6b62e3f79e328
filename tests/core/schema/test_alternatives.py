"""Errors in optional and union types: what is said is of the alternative that was meant."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

from nexus_core import ValidationError


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int
    name: str


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    bark: str
    puppies: list[Cat | Dog] = []


class Strict(pydantic.BaseModel, extra="forbid"):
    a: int
    b: int


class Loose(pydantic.BaseModel):
    c: int
    d: int


class Circle(msgspec.Struct, tag="circle"):
    radius: int


class Square(msgspec.Struct, tag="square"):
    side: int


class Checked(pydantic.BaseModel):
    even: int
    day: datetime.date | None = None

    @pydantic.field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("is odd")
        return value


Tagged = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
LONG = ("/value", "fits none of the alternatives: ")

CASES: list[tuple[Any, Any, list[tuple[str, str]]]] = [
    # optional
    (Strict | None, {"a": 1}, [("/value/b", "missing")]),
    (Strict | None, {"a": 1, "b": 2, "z": 3}, [("/value/z", "unknown name")]),
    (Strict | None, "x", [("/value", "expected object or null, got string")]),
    (int | None, "x", [("/value", "expected integer or null, got string")]),
    (list[Strict | None], [None, {"a": 1}], [("/value/1/b", "missing")]),
    (dict[str, Strict | None], {"k": {"b": 1}}, [("/value/k/a", "missing")]),
    (Circle | None, {"type": "circle"}, [("/value/radius", "missing")]),
    # declared discriminators
    (Tagged, {"kind": "dog", "lives": 3}, [("/value/bark", "missing")]),
    (Tagged | None, {"kind": "dog"}, [("/value/bark", "missing")]),
    (Tagged, {"kind": "dgo"}, [("/value/kind", 'expected one of "cat", "dog"; did you mean "dog"?')]),
    (Tagged, {"kind": 3}, [("/value/kind", 'expected one of "cat", "dog"')]),
    (Tagged, {"lives": 1}, [("/value/kind", 'missing: expected one of "cat", "dog"')]),
    (list[Tagged], [{"kind": "dog", "bark": 1}], [("/value/0/bark", "expected string, got integer")]),
    (Circle | Square, {"type": "square"}, [("/value/side", "missing")]),
    (Circle | Square | None, {}, [("/value/type", 'missing: expected one of "circle", "square"')]),
    # members that tell as well as a discriminator
    (Cat | Dog, {"kind": "dog"}, [("/value/bark", "missing")]),
    (Cat | Dog, {"kind": "kat"}, [("/value/kind", 'expected one of "cat", "dog"; did you mean "cat"?')]),
    (Dog, {"kind": "dog", "bark": "a", "puppies": [{"kind": "dog"}]}, [("/value/puppies/0/bark", "missing")]),
    # the fewest errors
    (Strict | Loose, {"c": 1}, [("/value/d", "missing")]),
    (Strict | Loose, {"a": 1}, [("/value/b", "missing")]),
    (Strict | Loose, {"a": "x"}, [("/value/b", "missing"), ("/value/a", "expected integer, got string")]),
    (Strict | dict[str, int], {"a": "x", "b": 1}, [("/value/a", "expected integer, got string")]),
    (Strict | list[Strict], [{"a": 1}], [("/value/0/b", "missing")]),
    (Strict | int, [], [("/value", "expected object or integer, got array")]),
    (int | datetime.date, "x", [("/value", "expected a valid date")]),
    (
        int | Literal["left", "right"], "lift",
        [("/value", 'expected integer or one of "left", "right", got string; did you mean "left"?')],
    ),
    # nothing tells
    (
        Strict | Loose, {},
        [(LONG[0], LONG[1] + "/value/a: missing; /value/b: missing; or /value/c: missing; /value/d: missing")],
    ),
    # what only the conversion finds
    (Checked | None, {"even": 1}, [("/value/even", "Value error, is odd")]),
    (Checked | Strict, {"even": 1}, [("/value/even", "Value error, is odd")]),
    (list[Strict | Checked], [{"even": 2}, {"even": 1}], [("/value/1/even", "Value error, is odd")]),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "value", "errors"), CASES, ids=lambda each: str(each)[:50])
def test_the_alternative_that_was_meant_is_reported(make: Any, hint: Any, value: Any, errors: Any) -> None:
    def take(value):  # type: ignore[no-untyped-def]
        return None

    take.__annotations__ = {"value": hint}
    with pytest.raises(ValidationError) as caught:
        make().register("take", take).prepare({"value": value})
    assert [(each["pointer"], each["message"]) for each in caught.value.errors] == errors
