"""Values on their way in and out: what a hint says holds for parameters, results and both schemas."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import json
import sys
import typing
import uuid
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import jsonschema
import msgspec
import pydantic
import pytest

from nexus_core import ConfigurationError, Invocation, ValidationError, WorkflowFailed
from nexus_core.schema.validation import Validator


class Inner(pydantic.BaseModel):
    x: int


class Outer(pydantic.BaseModel):
    inner: Inner
    more: list[Outer] = []


class Aliased(pydantic.BaseModel):
    first_name: str = pydantic.Field(alias="firstName")


class Around(msgspec.Struct):
    outer: Outer
    path: Path | None = None
    address: ipaddress.IPv4Address | None = None


class Tree(msgspec.Struct):
    inner: Inner
    leaves: list[Tree] = []


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str


class One(msgspec.Struct, tag=True):
    a: int


class Two(msgspec.Struct, tag=True):
    b: int


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Blob:
    data: bytes


@dataclasses.dataclass
class Upload:
    name: Annotated[str, pydantic.Field(min_length=2)]
    data: Annotated[bytes, pydantic.Field(min_length=1, max_length=2)]


BlobName = typing.NewType("BlobName", bytes)


class Rigid(pydantic.BaseModel, strict=True):
    day: datetime.date
    id: uuid.UUID
    tags: set[str]
    pair: tuple[int, Level]


@pydantic.dataclasses.dataclass
class Labelled:
    first_name: str = pydantic.Field(alias="firstName")
    data: bytes = b""


class Plain(typing.TypedDict, total=False):
    a: int


class Pair(NamedTuple):
    a: int
    b: str


Item = TypeVar("Item")


class Box(pydantic.BaseModel, Generic[Item]):
    item: Item


class Price(enum.Enum):
    LOW = decimal.Decimal("1.50")


class Day(enum.Enum):
    FIRST = datetime.date(2026, 1, 2)


DAY = datetime.date(2026, 1, 2)
ID = "12345678-1234-5678-1234-567812345678"

BOTH_WAYS: list[tuple[Any, Any]] = [
    (Around, {"outer": {"inner": {"x": 1}, "more": [{"inner": {"x": 2}, "more": []}]}, "path": "/a", "address": None}),
    (Around, {"outer": {"inner": {"x": 1}, "more": []}, "path": None, "address": "1.2.3.4"}),
    (Tree, {"inner": {"x": 1}, "leaves": [{"inner": {"x": 2}, "leaves": []}]}),
    (Aliased, {"firstName": "a"}), (Renamed, {"firstName": "a"}), (One | Two, {"type": "Two", "b": 1}),
    (Box[int], {"item": 1}), (Box[Inner], {"item": {"x": 1}}), (list[Box[int]], [{"item": 1}]),
    (bytes, "aGk="), (list[bytes], ["aGk="]), (Blob, {"data": "aGk="}), (bytes | None, None),
    (dict[str, bytes], {"a": ""}),
    (Plain, {"a": 1}), (list[Plain], [{}]), (Pair, [1, "b"]), (Level, 1), (frozenset[str], ["a"]),
    (datetime.datetime, "2026-01-02T03:04:05"), (datetime.datetime, "2026-01-02T03:04:05.500000+02:00"),
    (datetime.time, "03:04:05"), (datetime.timedelta, "PT1.5S"), (datetime.timedelta, "-PT1.5S"),
    (dict[int, str], {"1": "a"}), (dict[uuid.UUID, int], {ID: 1}), (dict[datetime.date, int], {"2026-01-02": 1}),
    (ipaddress.IPv4Address, "1.2.3.4"), (collections.deque[int], [1, 2]), (pydantic.HttpUrl, "http://a.example/"),
    (fractions.Fraction, "1/2"), (decimal.Decimal, "1.50"), (int, 10**30), (float, 1e308),
    (Literal[1, "a", None], None), (Price, "1.50"), (list[Day], ["2026-01-02"]),
    (Upload, {"name": "ab", "data": "aGk="}), (list[Upload], [{"name": "ab", "data": "aA=="}]), (BlobName, "aGk="),
    (bytes | str, "aGk="), (bytearray, "aGk="), (pydantic.Base64Bytes, "aGk="), (dict[int, bytes], {"1": "aGk="}),
    (dict[int, Tree], {"1": {"inner": {"x": 1}, "leaves": []}}),
    (getattr(typing, "Dict"), {"a": 1}), (getattr(typing, "List"), [1]),  # noqa: B009  (what is checked is the old form)
    (Rigid, {"day": "2026-01-02", "id": ID, "tags": ["a"], "pair": [1, 1]}),
    (Labelled, {"firstName": "a", "data": "aGk="}), (list[Labelled], [{"firstName": "a", "data": ""}]),
    (Annotated[decimal.Decimal, pydantic.PlainSerializer(float, float)], 1.5),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "value"), BOTH_WAYS, ids=lambda each: str(each)[:40])
async def test_what_goes_in_comes_out(make: Any, hint: Any, value: Any) -> None:
    def echo(value):  # type: ignore[no-untyped-def]
        return value

    echo.__annotations__ = {"value": hint, "return": hint}
    nexus = make()
    workflow = nexus.register("echo", echo)
    assert (await nexus.invoke("echo", {"value": value})).value == value
    # Readers of the schemas need nothing but the schemas: every reference leads somewhere.
    jsonschema.Draft202012Validator(workflow.input_schema).validate({"value": value})
    jsonschema.Draft202012Validator(workflow.output_schema).validate(value)


@pytest.mark.parametrize(
    ("hint", "value", "pointer"),
    [
        (Around, {"outer": {"inner": {"x": "1"}}}, "/value/outer/inner/x"), (Tree, {"inner": {}}, "/value/inner/x"),
        (bytes, "!!", "/value"), (Annotated[str, msgspec.Meta(max_length=3)], "abcd", "/value"),
        (list[Annotated[int, msgspec.Meta(ge=1)]], [1, 0], "/value/1"), (Plain, {"b": 1}, "/value/b"),
        (datetime.datetime, "2026-01-02", "/value"), (datetime.datetime, "2026-02-30T00:00:00", "/value"),
        (datetime.datetime, 5, "/value"), (datetime.time, "25:00:00", "/value"), (datetime.timedelta, "P", "/value"),
        (datetime.timedelta, "1 day", "/value"), (uuid.UUID, "x", "/value"), (ipaddress.IPv4Address, "1.2.3", "/value"),
        (Upload, {"name": "a", "data": "aGk="}, "/value/name"), (Upload, {"name": "ab", "data": ""}, "/value/data"),
        (Upload, {"name": "ab", "data": "YWJj"}, "/value/data"), (Labelled, {"first_name": "a"}, "/value/firstName"),
        (Annotated[bytes, pydantic.Field(max_length=1)], "aGk=", "/value"), (list[float], [10**400], "/value/0"),
        (list[Rigid], [{"day": "2026-02-30", "id": ID, "tags": [], "pair": [1, 1]}], "/value/0/day"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make: Any, hint: Any, value: Any, pointer: str) -> None:
    def take(value):  # type: ignore[no-untyped-def]
        return None

    take.__annotations__ = {"value": hint}
    if hint is Plain:
        take.__annotations__ = {"value": Closed}
    with pytest.raises(ValidationError) as caught:
        make().register("take", take).prepare({"value": value})
    assert caught.value.errors[0]["pointer"] == pointer


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_items_of_a_stream_are_written_as_their_hint_says(make: Any, kind: str) -> None:
    def items():  # type: ignore[no-untyped-def]
        yield decimal.Decimal("1.5")

    async def async_items():  # type: ignore[no-untyped-def]
        yield decimal.Decimal("1.5")

    function = items if kind == "sync" else async_items
    money = Annotated[decimal.Decimal, pydantic.PlainSerializer(float, float)]
    function.__annotations__ = {"return": typing.AsyncIterator[money] if kind == "async" else typing.Iterator[money]}
    nexus = make()
    nexus.register("stream", function)
    run = nexus.submit(Invocation("stream", {}))
    assert (await run.outcome()).value == [1.5]
    assert [each.data["value"] for each in run.events if each.type == "workflow.output"] == [1.5]


class Picky(pydantic.BaseModel):
    secret: str

    @pydantic.field_validator("secret")
    @classmethod
    def _check(cls, text: str) -> str:
        raise ValueError("it is too weak")


class Holder(msgspec.Struct):
    picky: Picky


class Closed(pydantic.BaseModel, extra="forbid"):
    a: int = 0


class Bounded(msgspec.Struct):
    n: Annotated[int, pydantic.Field(ge=1)]


class Doubting(msgspec.Struct):
    n: Annotated[int, pydantic.AfterValidator(abs)]


class Around2(msgspec.Struct):
    labelled: Labelled


class Somewhere(msgspec.Struct):
    path: Path = Path("a")


class PlainBounded(typing.TypedDict):
    n: Annotated[int, pydantic.Field(ge=1)]


@pytest.mark.parametrize(
    ("hint", "word"),
    [
        (Bounded, "msgspec.Meta"), (Doubting, "msgspec.Meta"), (list[Bounded | None], "msgspec.Meta"),
        (Annotated[list[One], pydantic.Field(min_length=1)], "msgspec.Meta"), (Around2, "pydantic dataclass Labelled"),
        (Somewhere, "default_factory"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_is_refused(make: Any, hint: Any, word: str) -> None:
    def take(value):  # type: ignore[no-untyped-def]
        return None

    take.__annotations__ = {"value": hint}
    with pytest.raises(ConfigurationError, match=f"take: The annotation of value .*{word}"):
        make().register("take", take)


def test_constraints_in_a_typed_dictionary_hold_or_are_refused(make: Any) -> None:
    def take(value):  # type: ignore[no-untyped-def]
        return None

    take.__annotations__ = {"value": PlainBounded}
    if sys.version_info < (3, 12):
        with pytest.raises(ConfigurationError, match=r"use typing_extensions\.TypedDict"):
            make().register("take", take)
    else:
        with pytest.raises(ValidationError, match="/value/n"):
            make().register("take", take).prepare({"value": {"n": 0}})


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the `type` statement is Python 3.12's")
async def test_named_types_are_what_they_stand_for(make: Any) -> None:
    names: dict[str, Any] = {"One": One}
    lines = [
        "type Json = dict[str, Json] | list[Json] | int | None",
        "type Ones = list[One | None]",
        "type Blob = bytes",
    ]
    exec("\n".join(lines), names)
    nexus = make()
    for name, value in (("Json", {"a": [1, {"b": None}]}), ("Ones", [{"type": "One", "a": 1}, None]), ("Blob", "aGk=")):

        def echo(value):  # type: ignore[no-untyped-def]
            return value

        echo.__annotations__ = {"value": names[name], "return": names[name]}
        nexus.register("echo", echo, replace=True)
        assert (await nexus.invoke("echo", {"value": value})).value == value


def test_a_description_beside_a_struct_is_no_constraint(make: Any) -> None:
    def take(value):  # type: ignore[no-untyped-def]
        return value

    take.__annotations__ = {"value": Annotated[One, pydantic.Field(description="The first.")]}
    assert make().register("take", take).prepare({"value": {"type": "One", "a": 1}}) == {"value": One(1)}


def test_base64_is_described_as_such(make: Any) -> None:
    def take(value: Upload, other: bytes) -> bytes:
        return b""

    workflow = make().register("take", take)
    schema = workflow.input_schema
    assert schema["properties"]["other"] == {"type": "string", "contentEncoding": "base64"}
    data = schema["$defs"]["Upload"]["properties"]["data"]
    assert (data["contentEncoding"], data["minLength"], data["maxLength"]) == ("base64", 2, 4)
    assert workflow.output_schema == {"type": "string", "contentEncoding": "base64"}


def test_a_models_own_checks_inside_a_struct_do_not_repeat_the_value(make: Any) -> None:
    def take(value):  # type: ignore[no-untyped-def]
        return None

    take.__annotations__ = {"value": Holder}
    with pytest.raises(ValidationError) as caught:
        make().register("take", take).prepare({"value": {"picky": {"secret": "hunter2"}}})
    assert "too weak" in str(caught.value.problem())
    assert "hunter2" not in str(caught.value.problem())


@pytest.mark.parametrize(
    "value",
    [
        (each for each in [1]), map(str, [1]), ValueError("a secret"), type, len, range(3), 1j, {(1, 2): 3}, {None: 1},
        {frozenset(): 1}, [object()],
    ],
    ids=[str(n) for n in range(11)],
)  # fmt: skip
async def test_what_has_no_json_form_is_no_result(make: Any, value: Any) -> None:
    nexus = make()
    nexus.register("give", lambda: value)
    with pytest.raises(WorkflowFailed, match="cannot be converted to JSON") as caught:
        await nexus.invoke("give")
    assert "secret" not in str(caught.value.problem())


async def test_secrets_of_pydantic_stay_masked(make: Any) -> None:
    nexus = make()
    nexus.register("give", lambda: {"key": pydantic.SecretStr("hunter2")})
    assert (await nexus.invoke("give")).value == {"key": "**********"}


@pytest.mark.parametrize("text", ["03:04", "03:04:05.5", "23:59:60Z", "03:04:05+01:00", "03:04:05z"])
def test_times_are_times(text: str) -> None:
    time, moment = Validator({"format": "time"}), Validator({"format": "date-time"})
    assert time.errors(text) == []
    assert moment.errors(f"2026-12-31T{text}") == []
    assert moment.errors(text)
    assert moment.errors(f"2026-13-31T{text}")
    for more in ("x", "\n", "\u0660"):
        assert time.errors(text + more)
        assert moment.errors(f"2026-12-31T{text}{more}")


def test_durations_are_durations() -> None:
    duration = Validator({"format": "duration"})
    for text in ("P1D", "PT0S", "P1Y2M3DT4H5M6.789S", "P2W", "-P1DT7200S", "PT36H"):
        assert duration.errors(text) == [], text
    for text in ("", "P", "PT", "P1", "1D", "P1DT", "P1H", "PT1.S", "P1D\n", "p1d", "P٣D"):
        assert duration.errors(text), text


def test_missing_optional_packages_are_named(make: Any) -> None:
    def take(value: pydantic.EmailStr) -> None: ...

    take.__annotations__ = {"value": pydantic.EmailStr}
    try:
        import email_validator  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigurationError, match="email-validator"):
            make().register("take", take)
    else:
        make().register("take", take)


def test_schemas_can_be_written_as_json(make: Any) -> None:
    def take(a: Around, b: Tree, c: list[Outer], d: Blob | None = None) -> dict[str, Around | None]:
        return {}

    workflow = make().register("take", take)
    for schema in (workflow.input_schema, workflow.output_schema):
        jsonschema.Draft202012Validator.check_schema(json.loads(json.dumps(schema)))
