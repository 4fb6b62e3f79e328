"""What is wrong in a value as large as a body may be is told at once, and in little memory."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_core import ValidationError
from nexus_core.schema.excerpts import CHECKED, REPORTED, excerpts
from nexus_core.schema.validation import MAX_ERRORS, Validator

SECONDS = 3.0
INTEGERS = {"type": "array", "items": {"type": "integer"}}
MODEL = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
TREE = {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#/$defs/tree"}}]}


def _nested(depth: int) -> Any:
    value: Any = "bad"
    for _ in range(depth):
        value = [value]
    return value


def _schema(member: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"x": member}, "additionalProperties": False}
    return schema | {"$defs": {"tree": TREE}} if "$ref" in member else schema


@pytest.mark.parametrize(
    ("member", "value", "first"),
    [
        (INTEGERS, ["a"] * 1_000_000, "/x/0"),
        (INTEGERS, [1] * 200_000 + ["a"] * 100_000, "/x/200000"),
        ({"anyOf": [INTEGERS, {"type": "null"}]}, ["a"] * 1_000_000, "/x/0"),
        ({"type": "array", "items": {"anyOf": [INTEGERS, {"type": "null"}, MODEL]}}, ["a"] * 500_000, "/x/0"),
        ({"type": "array", "items": MODEL}, [{}] * 200_000, "/x/0/a"),
        ({"type": "array", "items": MODEL}, [{"b": 1}] * 200_000, "/x/0/"),
        (MODEL, {"a": 1} | {f"{n}": n for n in range(200_000)}, "/x/0"),
        ({"$ref": "#/$defs/tree"}, [_nested(60)] * 1000, "/x/0"),
        ({"$ref": "#/$defs/tree"}, _nested(120), "/x/0"),
        ({"type": "array", "maxItems": 10}, [1] * 500_000, "/x"),
    ],
)  # fmt: skip
def test_a_large_value_is_reported_on_at_once(member: dict[str, Any], value: Any, first: str) -> None:
    validator = Validator(_schema(member))
    begin = time.thread_time()
    with pytest.raises(ValidationError) as caught:
        validator.check({"x": value})
    assert time.thread_time() - begin < SECONDS
    assert 1 <= len(caught.value.errors) <= MAX_ERRORS
    assert caught.value.errors[0]["pointer"].startswith(first)


def test_what_a_part_lacks_is_not_said_to_be_missing() -> None:
    wide = {"type": "object", "required": [f"{n}" for n in range(1200)], "additionalProperties": {"type": "integer"}}
    value = {f"{n}": n for n in range(1199)} | {"1199": "a"}
    assert [error["pointer"] for error in Validator(wide).errors(value)] == ["/1199"]
    long = {"type": "array", "minItems": 2000, "items": {"type": "integer"}}
    assert [error["pointer"] for error in Validator(long).errors([1] * 2500 + ["a"])] == ["/2500"]


def test_what_is_far_behind_is_found_or_at_least_refused() -> None:
    value = [1] * 999_999 + ["a"]
    (error,) = Validator(INTEGERS).errors(value)
    assert error["pointer"] == "/999999"
    (error,) = Validator({"anyOf": [INTEGERS, {"type": "null"}]}).errors(value)
    assert error == {"pointer": "", "message": "does not fit the schema, and is too large to tell where"}
    (error,) = Validator({"type": "array", "minItems": 2_000_000}).errors(value)
    assert "2000000" in error["message"]


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=6),
    max_leaves=40,
)


@given(VALUES)
def test_a_small_value_is_looked_at_as_a_whole(value: Any) -> None:
    (only,) = excerpts(value, REPORTED)
    assert only.value == value


@given(st.integers(1100, 20_000), st.integers(0, 10**9))
def test_a_part_leads_back_to_the_whole(length: int, seed: int) -> None:
    wrong = seed % length
    value: list[Any] = [0] * length
    value[wrong] = "a"
    found = Validator({"type": "array", "items": {"type": "array", "items": {"type": "integer"}} | INTEGERS}).errors
    (error,) = found([[0], value])
    assert error["pointer"] == f"/1/{wrong}"
    assert all(part.size <= CHECKED for part in excerpts([[0], value], CHECKED))


def test_what_only_the_conversion_finds_is_reported_as_fast(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    def total(x: list[int]) -> int:
        return sum(x)

    value = {"x": [1] * 3000 + [1e23] * 300_000}
    begin = time.thread_time()
    with pytest.raises(ValidationError) as caught:
        nexus.workflows.get("total").prepare(value)
    assert time.thread_time() - begin < SECONDS
    assert len(caught.value.errors) <= MAX_ERRORS
    assert caught.value.errors[0]["pointer"] == "/x/3000"
