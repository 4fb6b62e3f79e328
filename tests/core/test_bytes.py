"""Bytes on their way in and out: base64 text at any depth, in every kind of type."""

from __future__ import annotations

import dataclasses
import enum
import typing
from typing import Annotated, Any, Generic, Literal, TypeVar

import jsonschema
import msgspec
import pydantic
import pytest
import typing_extensions

from nexus_core import ValidationError

Item = TypeVar("Item")


class Box(pydantic.BaseModel, Generic[Item]):
    item: Item


@pydantic.dataclasses.dataclass
class Labelled:
    first_name: str = pydantic.Field(alias="firstName")
    data: bytes = b""


class BytesInside(pydantic.BaseModel):
    data: bytes


@dataclasses.dataclass
class BytesBeside:
    data: bytes
    model: BytesInside


class BytesTyped(typing_extensions.TypedDict):
    data: bytes
    model: BytesInside | None


class BytesNamed(typing.NamedTuple):
    data: bytes


class BytesRoot(pydantic.RootModel[list[bytes]]):
    pass


class BytesStrict(pydantic.BaseModel, strict=True):
    data: bytes | None


class BytesHex(pydantic.BaseModel, ser_json_bytes="hex", val_json_bytes="hex"):
    data: bytes
    inside: BytesInside


class BytesEncoded(pydantic.BaseModel):
    own: pydantic.Base64Bytes
    both: tuple[bytes, pydantic.Base64UrlBytes]


class BytesTree(pydantic.BaseModel):
    data: Annotated[bytes, pydantic.Field(min_length=1, alias="raw")]
    leaves: list[BytesTree] = []
    by_key: dict[bytes, list[bytes | None]] = {}


class BytesStruct(msgspec.Struct):
    data: bytes
    model: BytesInside
    typed: BytesTyped


class BytesEnum(enum.Enum):
    ONE = b"\xff\xfe"
    TWO = b"hi"


class BytesInit(pydantic.BaseModel):
    data: bytes = pydantic.Field(alias="raw")
    inside: BytesInside | None = None

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)


RAW = "//4="
IN_MODEL = {"data": RAW}
BYTES: list[tuple[Any, Any]] = [
    (bytes, RAW), (list[bytes], [RAW]), (dict[str, bytes | None], {"a": RAW}), (set[bytes], [RAW]),
    (BytesInside, IN_MODEL), (list[BytesInside], [IN_MODEL]), (BytesInside | None, IN_MODEL), (BytesStrict, IN_MODEL),
    (dict[str, tuple[BytesInside, bytes]], {"a": [IN_MODEL, RAW]}), (BytesInside | int, IN_MODEL), (BytesRoot, [RAW]),
    (BytesBeside, {"data": RAW, "model": IN_MODEL}), (BytesTyped, {"data": RAW, "model": IN_MODEL}),
    (BytesNamed, [RAW]), (Labelled, {"firstName": "a", "data": RAW}), (Box[bytes], {"item": RAW}),
    (Box[list[BytesInside]], {"item": [IN_MODEL]}), (BytesHex, {"data": "fffe", "inside": IN_MODEL}),
    (list[BytesEnum], [RAW]), (list[BytesInit], [{"raw": RAW, "inside": IN_MODEL}]),
    (Literal[b"\xff\xfe"], RAW), (BytesEncoded, {"own": RAW, "both": [RAW, "__4="]}),
    (BytesTree, {"raw": RAW, "leaves": [{"raw": RAW, "leaves": [], "by_key": {}}], "by_key": {RAW: [RAW, None]}}),
    (BytesStruct, {"data": RAW, "model": IN_MODEL, "typed": {"data": RAW, "model": None}}),
]  # fmt: skip


def bytes_in(value: Any) -> set[bytes]:
    """Return the bytes that are anywhere in a value."""
    if isinstance(value, (bytes, BytesEnum)):
        return {value.value if isinstance(value, BytesEnum) else value}
    if isinstance(value, dict):
        value = [*value, *value.values()]
    elif isinstance(value, pydantic.BaseModel):
        value = [each for _, each in value]
    elif dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__annotations__]
    elif not isinstance(value, (list, tuple, set)):
        return set()
    return set().union(*map(bytes_in, value))


@pytest.mark.parametrize(("hint", "value"), BYTES, ids=lambda each: str(each)[:40])
@pytest.mark.parametrize("returned", ["hinted", "any"])
async def test_bytes_are_base64_both_ways_in_every_type(make: Any, hint: Any, value: Any, returned: str) -> None:
    seen = []

    def echo(value):  # type: ignore[no-untyped-def]
        seen.append(value)
        return value

    echo.__annotations__ = {"value": hint} | ({"return": hint} if returned == "hinted" else {})
    nexus = make()
    workflow = nexus.register("echo", echo)
    result = (await nexus.invoke("echo", {"value": value})).value
    assert bytes_in(seen) == {b"\xff\xfe"}
    if hint is Labelled and returned == "any":  # a bare dataclass is written with the names of its fields
        value = {"first_name": "a", "data": RAW}
    assert result == value
    if returned == "hinted":
        jsonschema.Draft202012Validator(workflow.input_schema).validate({"value": value})
        jsonschema.Draft202012Validator(workflow.output_schema).validate(value)


class BytesAnywhere(pydantic.BaseModel, extra="allow"):
    anything: Any
    default: bytes = b"\xff\xfe"


async def test_bytes_that_no_hint_names_are_base64_too(make: Any) -> None:
    def give() -> Any:
        return BytesAnywhere(anything={"a": [b"\xff\xfe", BytesInside(data=b"\xff\xfe")]}, more=(b"\xff\xfe",))

    def take(value: BytesAnywhere) -> None:
        assert value.default == b"\xff\xfe"

    nexus = make()
    nexus.register("give", give)
    assert (await nexus.invoke("give")).value == {
        "anything": {"a": [RAW, {"data": RAW}]}, "default": RAW, "more": [RAW],
    }  # fmt: skip
    definitions = nexus.register("take", take).input_schema["$defs"]
    assert definitions["BytesAnywhere"]["properties"]["default"]["default"] == RAW
    await nexus.invoke("take", {"value": {"anything": 1}})


def test_text_that_is_not_base64_is_refused_at_its_place(make: Any) -> None:
    def take(value: list[BytesInside]) -> None: ...

    with pytest.raises(ValidationError) as caught:
        make().register("take", take).prepare({"value": [{"data": "//4="}, {"data": "\xff"}]})
    assert caught.value.errors[0]["pointer"] == "/value/1/data"
    assert "base64" in caught.value.errors[0]["message"]
