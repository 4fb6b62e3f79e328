from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import time
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jsonschema
import msgspec
import pydantic
import pytest
from typing_extensions import TypedDict

from nexus_core import ConfigurationError, Context, ValidationError
from nexus_core.schema.expected import from_expected_parameters
from nexus_core.schema.references import move_schema
from nexus_core.schema.validation import MAX_ERRORS, Validator


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2)
    point: Point | None = None


class Struct(msgspec.Struct):
    tag: str
    points: list[Point] = []


@dataclasses.dataclass
class Mixed:
    struct: Struct
    model: Model


class Opaque:
    pass


class Row(TypedDict):
    a: int


class Pair(NamedTuple):
    a: int
    b: str


HINTS: list[tuple[Any, Any, Any]] = [
    (int, 3, 3), (int, 3.0, 3), (float, 3, 3.0), (str, "a", "a"), (bool, True, True), (None, None, None),
    (list[int], [1, 2], [1, 2]), (dict[str, float], {"a": 1}, {"a": 1.0}), (set[int], [1, 2], {1, 2}),
    (tuple[int, str], [1, "a"], (1, "a")), (int | None, None, None), (int | str, "a", "a"),
    (Any, {"a": [1]}, {"a": [1]}),
    (Literal["a", 1], 1, 1), (Colour, "red", Colour.RED), (Point, {"x": 1}, Point(1)),
    (Model, {"name": "ab", "point": {"x": 1}}, Model(name="ab", point=Point(1))),
    (Struct, {"tag": "t", "points": [{"x": 1}]}, Struct("t", [Point(1)])),
    (Mixed, {"struct": {"tag": "t"}, "model": {"name": "ab"}}, Mixed(Struct("t"), Model(name="ab"))),
    (list[Struct], [{"tag": "t"}], [Struct("t")]), (dict[str, Struct | None], {"a": None}, {"a": None}),
    (datetime.datetime, "2026-01-02T03:04:05Z", datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
    (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
    (uuid.UUID, "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    (decimal.Decimal, "1.50", decimal.Decimal("1.50")), (Path, "/a/b", Path("/a/b")),
    (Annotated[int, pydantic.Field(ge=1)], 1, 1), (Row, {"a": 1}, {"a": 1}), (Pair, [1, "b"], Pair(1, "b")),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "given", "wanted"), HINTS, ids=lambda each: str(each)[:40])
async def test_hints_become_schemas_and_values_their_types(make: Any, hint: Any, given: Any, wanted: Any) -> None:
    seen = []

    def take(value):  # type: ignore[no-untyped-def]
        seen.append(value)

    take.__annotations__ = {"value": hint}
    workflow = make().register("take", take)
    jsonschema.Draft202012Validator.check_schema(workflow.input_schema)
    jsonschema.Draft202012Validator(workflow.input_schema).validate({"value": given})
    prepared = workflow.prepare({"value": given})
    assert prepared == {"value": wanted}
    assert type(prepared["value"]) is type(wanted)


@pytest.mark.parametrize(
    ("hint", "given", "pointer"),
    [
        (int, "3", "/value"), (int, True, "/value"), (int, 1.5, "/value"), (str, 1, "/value"),
        (Colour, "rad", "/value"),
        (Point, {"x": "1"}, "/value/x"), (Point, {}, "/value/x"), (Model, {"name": "a"}, "/value/name"),
        (Struct, {"tag": "t", "points": [{"x": 1}, {"y": 2}]}, "/value/points/1/x"),
        (Mixed, {"struct": {"tag": 1}, "model": {"name": "ab"}}, "/value/struct/tag"),
        (list[int], [1, "a"], "/value/1"), (datetime.date, "2026-02-30", "/value"), (int | None, "a", "/value"),
        (Annotated[int, pydantic.Field(ge=1)], 0, "/value"), (Point | None, {"x": "1"}, "/value/x"),
        (dict[str, int], {"a/b~c": "x"}, "/value/a~1b~0c"),
    ],
)  # fmt: skip
def test_wrong_values_are_named_by_pointer(make: Any, hint: Any, given: Any, pointer: str) -> None:
    def take(value):  # type: ignore[no-untyped-def]
        return None

    take.__annotations__ = {"value": hint}
    with pytest.raises(ValidationError) as caught:
        make().register("take", take).prepare({"value": given})
    assert [error["pointer"] for error in caught.value.errors] == [pointer]


def test_errors_are_bounded_and_never_repeat_the_value(make: Any) -> None:
    def take(known: int) -> None: ...

    workflow = make().register("take", take)
    secret = "hunter2" * 1000
    with pytest.raises(ValidationError) as caught:
        workflow.prepare({"known": secret, "knwon": 1} | {f"x{n}\r\n\x1b[31m{'y' * 500}": secret for n in range(500)})
    errors = caught.value.errors
    assert len(errors) == MAX_ERRORS
    assert "hunter2" not in str(caught.value.problem())
    assert all(error["message"].isprintable() and len(error["pointer"]) <= 200 for error in errors)
    assert any(error.get("nearest") == "known" for error in errors)


def test_keys_that_are_not_json_are_refused(make: Any) -> None:
    def take(value: Any) -> None: ...

    workflow = make().register("take", take)
    for bad in ({1: 2}, {"value": 1, None: 2}):
        with pytest.raises(ValidationError):
            workflow.prepare(bad)


@pytest.mark.parametrize(
    "doc",
    [
        "Do it.\n\nAt length.\n\nArgs:\n    a: The first.\n    b: The second.\n",
        "Do it.\n\nAt length.\n\nParameters\n----------\na : int\n    The first.\nb\n    The second.\n",
        "Do it.\n\nAt length.\n\n:param a: The first.\n:param b: The second.\n",
    ],
    ids=["Google", "NumPy", "Sphinx"],
)
def test_docstrings_describe_parameters(make: Any, doc: str) -> None:
    def function(a: int, b: Point = Point(1), *, context: Context | None = None) -> list[Point]:  # noqa: B008
        return []

    function.__doc__ = doc
    workflow = make().register("f", function)
    properties = workflow.input_schema["properties"]
    assert workflow.description == "Do it.\n\nAt length."
    assert properties["a"]["description"] == "The first."
    assert properties["b"]["description"] == "The second."
    assert properties["b"]["default"] == {"x": 1, "y": 0}
    assert workflow.input_schema["required"] == ["a"]
    assert workflow.output_schema["type"] == "array"


def test_local_classes_and_names_for_type_checkers_are_found(make: Any) -> None:
    @dataclasses.dataclass
    class Local:
        n: int

    def function(value: Local, context: Context) -> Local:
        return Local(value.n)

    assert make().register("f", function).input_schema["$defs"]["Local"]["required"] == ["n"]

    namespace: dict[str, Any] = {}
    exec("async def stream(n: int, c: 'Context') -> 'AsyncIterator[int]':\n    yield n", namespace)
    workflow = make().register("s", namespace["stream"])
    assert workflow.output_schema == {"type": "array", "items": {"type": "integer"}}
    assert list(workflow.input_schema["properties"]) == ["n"]


def test_hints_without_a_json_form_are_refused_by_name(make: Any) -> None:
    def opaque(thing: Opaque) -> None: ...

    def args(*things: int) -> None: ...

    namespace: dict[str, Any] = {}
    exec("def missing(thing: 'Nowhere') -> None: ...", namespace)
    for function, word in ((opaque, "thing"), (args, "use a list"), (namespace["missing"], "Nowhere")):
        with pytest.raises(ConfigurationError, match=word):
            make().register("f", function)


def test_expected_parameters() -> None:
    schema = from_expected_parameters(
        {"data": {"type": "object", "required": True}, "n": {"type": "int", "minimum": 1}, "inner": {"required": ["a"]}}
    )
    assert schema["required"] == ["data"]
    assert schema["properties"]["n"] == {"type": "integer", "minimum": 1}
    assert schema["properties"]["inner"] == {"required": ["a"]}


def test_expected_parameters_may_be_written_as_deep_as_they_are() -> None:
    rows = {"type": "list", "items": {"type": dict, "properties": {"id": {"type": int, "required": True}, "x": True}}}
    schema = from_expected_parameters({"rows": rows, "either": {"type": ["str", None.__class__]}})
    row = {"type": "object", "properties": {"id": {"type": "integer"}, "x": True}, "required": ["id"]}
    assert schema["properties"] == {
        "rows": {"type": "array", "items": row}, "either": {"type": ["string", "null"]},
    }  # fmt: skip
    assert rows["type"] == "list"


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        ({"a": 1}, r"expected_parameters\['a'\]: .* their schemas mappings such as"),
        ({1: {}}, r"expected_parameters\[1\]: names must be strings"),
        ([1], "must be a mapping"),
        ({"a": {"type": "strin"}}, r"expected_parameters\['a'\]: 'strin' is not a type; use string, "),
        ({"a": {"items": {"type": "any"}}}, r"expected_parameters\['a'\]\['items'\]: 'any' is not a type"),
        ({"a": {"$ref": "http://example.com/x"}}, r"expected_parameters\['a'\]: .*may not refer"),
        ({"a": {"properties": {"b": {"minimum": "1"}}}}, r"not valid at /properties/b/minimum: .*number"),
        ({"a": {"required": "b", "properties": {}}}, "not valid at /required: "),
    ],
)
def test_what_is_wrong_in_expected_parameters_is_named_on_one_line(expected: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        from_expected_parameters(expected)
    assert "\n" not in str(caught.value)


def test_expected_parameters_must_fit_the_function(make: Any) -> None:
    def take(a: int, b: int = 0) -> None: ...

    for expected, word in (({"c": {}}, "'c'"), ({"b": {}}, "'a'")):
        with pytest.raises(ConfigurationError, match=word):
            make().register("take", take, {"expected_parameters": expected})


def test_schemas_never_fetch() -> None:
    with pytest.raises(ConfigurationError):
        Validator({"$ref": "https://example.com/schema.json"})


def test_a_schema_moves_with_its_definitions() -> None:
    schema = {"$defs": {"A": {"items": {"$ref": "#/$defs/A"}}}, "properties": {"$ref": {"$ref": "#/$defs/A"}}}
    moved, definitions = move_schema(schema, "#/y", "#/x/")
    assert moved == {"properties": {"$ref": {"$ref": "#/x/A"}}}
    assert definitions == {"A": {"items": {"$ref": "#/x/A"}}}


@pytest.mark.parametrize(
    ("schema", "moved"),
    [
        ({"items": {"$ref": "#"}}, {"items": {"$ref": "#/y"}}),
        ({"anyOf": [{"$ref": "#/properties/a"}]}, {"anyOf": [{"$ref": "#/y/properties/a"}]}),
        ({"properties": {"default": {"$ref": "#"}}}, {"properties": {"default": {"$ref": "#/y"}}}),
        ({"patternProperties": {"enum": {"$ref": "#"}}}, {"patternProperties": {"enum": {"$ref": "#/y"}}}),
        ({"not": {"$ref": "#"}}, {"not": {"$ref": "#/y"}}),
        ({"items": True, "$ref": "https://example.com/#/$defs/A"},) * 2,
        ({"default": {"$ref": "#/$defs/A"}},) * 2,
        ({"enum": [{"$ref": "#"}], "const": {"$ref": "#"}, "examples": [{"$ref": "#"}]},) * 2,
        (
            {"discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/Cat"}}},
            {"discriminator": {"propertyName": "kind", "mapping": {"cat": "#/x/Cat"}}},
        ),
        ({"discriminator": {"propertyName": "kind"}},) * 2,
    ],
)
def test_references_move_and_nothing_else(schema: dict[str, Any], moved: dict[str, Any]) -> None:
    before = json.dumps(schema)
    assert move_schema(schema, "#/y", "#/x/") == (moved, {})
    assert json.dumps(schema) == before


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(?=a)(a+)+b", r"^(?:(a+)\1)+$", r"(a*)*\1b"])
@pytest.mark.parametrize("name", ["text", "default", "pattern"])
def test_no_pattern_runs_for_long(pattern: str, name: str) -> None:
    validator = Validator({"properties": {name: {"type": "array", "items": {"pattern": pattern}}}})
    begin = time.monotonic()
    assert validator.errors({name: ["a" * 1_000_000 + "!"]})
    assert validator.errors({name: ["a" * 200 + "!"] * 10})
    assert time.monotonic() - begin < 5


def test_patterns_with_lookaround_match_short_texts() -> None:
    validator = Validator({"properties": {"password": {"pattern": r"^(?=.*\d)(?=.*[a-z]).{8,}$"}}})
    assert not validator.errors({"password": "correct2horse"})
    for value, message in (("short1", "text that matches"), ("a1" * 200, "at most 256")):
        (error,) = validator.errors({"password": value})
        assert error["pointer"] == "/password"
        assert message in error["message"]
    with pytest.raises(ConfigurationError, match="patternProperties"):
        Validator({"patternProperties": {"(?=a)a": {}}})
