"""Workflows with made-up signatures: what the published schema allows can be called, and comes out as it went in."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import inspect
import ipaddress
import itertools
import logging
import typing
import uuid
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import pydantic
import pytest
import typing_extensions
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from nexus_core import ConfigurationError, Nexus, ValidationError
from nexus_core.schema.validation import Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Size(enum.Enum):
    SMALL = "small"
    LARGE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


KEYS = [str, int, uuid.UUID, datetime.date, Level]
LEAVES = [
    int, float, str, bool, bytes, Decimal, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
    uuid.UUID, Path, ipaddress.IPv4Address, Size, Level, Literal["a", 1, None], Any, None, dict, list,
    Annotated[int, pydantic.Field(ge=1, lt=100)], Annotated[str, pydantic.Field(min_length=1, max_length=3)],
    Annotated[float, pydantic.Field(gt=0)], Annotated[bytes, pydantic.Field(max_length=4)], pydantic.Base64Bytes,
]  # fmt: skip
HASHABLE = [int, str, bytes, uuid.UUID, datetime.date, Size]
NAMES = ["a", "b", "kind", "self_", "data", "type", "name"]


def fields(hints: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(NAMES), hints, min_size=1, max_size=3)


_numbers = itertools.count()


def _named(prefix: str) -> str:
    return f"{prefix}{next(_numbers)}"


def model(members: dict[str, Any], **config: Any) -> Any:
    try:
        return pydantic.create_model(_named("Model"), __config__=pydantic.ConfigDict(**config), **members)
    except pydantic.errors.PydanticSchemaGenerationError:  # a struct in it
        reject()


def plain(members: dict[str, Any]) -> Any:
    return model({name: (hint, ...) for name, hint in members.items()})


def aliased(members: dict[str, Any]) -> Any:
    made = {name: (hint, pydantic.Field(alias=f"{name}Alias")) for name, hint in members.items()}
    return model(made, extra="forbid")


def data_class(members: dict[str, Any]) -> Any:
    return dataclasses.make_dataclass(_named("Data"), members.items())


def typed_dict(members: dict[str, Any]) -> Any:
    return typing_extensions.TypedDict(_named("Typed"), members)


def named_tuple(members: dict[str, Any]) -> Any:
    return typing.NamedTuple(_named("Named"), list(members.items()))


def struct(members: dict[str, Any]) -> Any:
    return msgspec.defstruct(_named("Struct"), list(members.items()))


def combined(hints: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        hints.map(lambda hint: list[hint]),
        st.tuples(st.sampled_from(KEYS), hints).map(lambda pair: dict[pair[0], pair[1]]),
        hints.map(lambda hint: typing.Union[hint, None]),  # noqa: UP007
        st.lists(hints, min_size=2, max_size=3).map(lambda some: typing.Union[tuple(some)]),  # noqa: UP007
        st.lists(hints, min_size=1, max_size=3).map(lambda some: tuple[tuple(some)]),
        st.sampled_from(HASHABLE).map(lambda hint: set[hint]),
        *(fields(hints).map(make) for make in (plain, aliased, data_class, typed_dict, named_tuple, struct)),
    )


HINTS = st.recursive(st.sampled_from(LEAVES), combined, max_leaves=6)


class Values:
    """Makes values that a schema allows."""

    def __init__(self, draw: Callable[[Any], Any], root: dict[str, Any]) -> None:
        self._draw = draw
        self._definitions = root.get("$defs", {})

    def of(self, schema: Any) -> Any:
        draw = self._draw
        if not isinstance(schema, dict) or not schema.keys() - {"title", "description", "default"}:
            return draw(st.sampled_from([None, 1, 1.5, "x", True, [], {"a": [1]}]))
        if "$ref" in schema:
            return self.of(self._definitions[schema["$ref"].removeprefix("#/$defs/")])
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return draw(st.sampled_from(schema["enum"]))
        for name in ("anyOf", "oneOf"):
            if name in schema:
                return self.of(draw(st.sampled_from(schema[name])))
        if "allOf" in schema:
            return self.of(schema["allOf"][0])
        return getattr(self, f"_{schema.get('type', 'string')}")(schema)

    def _null(self, schema: Any) -> None:
        return None

    def _boolean(self, schema: Any) -> bool:
        return self._draw(st.booleans())

    def _integer(self, schema: Any) -> int:
        low, high = schema.get("minimum", -(10**25)), schema.get("maximum", schema.get("exclusiveMaximum", 10**25) - 1)
        number = self._draw(st.integers(low, high))
        return float(number) if abs(number) < 2**50 and self._draw(st.booleans()) else number  # 3.0 is an integer

    def _number(self, schema: Any) -> float:
        above = schema.get("exclusiveMinimum")
        floats = st.floats(min_value=above, exclude_min=above is not None, allow_nan=False, allow_infinity=False)
        return self._draw(floats if above is not None else floats | st.integers(-(10**20), 10**20))

    def _string(self, schema: Any) -> str:
        draw, kind = self._draw, schema.get("format")
        if schema.get("contentEncoding") == "base64":
            return draw(st.sampled_from(["", "AA==", "//4=", "__4", "aGk"]))
        if kind == "base64":
            return draw(st.sampled_from(["", "aGk=", "//4="]))
        moment = st.datetimes(datetime.datetime(1, 1, 3), datetime.datetime(9999, 12, 29))
        makers: dict[str | None, Any] = {
            "date": st.dates().map(str) | st.just("2026-02-30"),
            "date-time": moment.map(lambda each: each.isoformat()) | st.just("2026-01-02T03:04:05Z"),
            "time": st.times().map(lambda each: each.isoformat()),
            "duration": st.sampled_from(["PT1.5S", "-P1DT2H", "P3W", "P1Y", "PT0S"]),
            "uuid": st.uuids().map(str),
            "ipv4": st.ip_addresses(v=4).map(str),
            "path": st.sampled_from(["", "/a/b", "a b", "é"]),
        }
        if kind in makers:
            return draw(makers[kind])
        if "pattern" in schema:
            return draw(st.decimals(allow_nan=False, allow_infinity=False).map(lambda each: f"{each:f}"))
        characters = st.characters(exclude_categories=["Cs"])
        return draw(st.text(characters, min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 8)))

    def _array(self, schema: Any) -> list[Any]:
        if "prefixItems" in schema:
            return [self.of(each) for each in schema["prefixItems"]]
        return [self.of(schema.get("items", {})) for _ in range(self._draw(st.integers(0, 2)))]

    def _object(self, schema: Any) -> dict[str, Any]:
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        made = {
            name: self.of(each) for name, each in properties.items() if name in required or self._draw(st.booleans())
        }
        rest = schema.get("additionalProperties")
        names = schema.get("propertyNames", {})
        if isinstance(rest, dict) and not properties:
            keys = {"x": names} if names.get("not") is None else {"x": {"type": "string"}}
            for _ in range(self._draw(st.integers(0, 2))):
                key = self.of(keys["x"]) if keys["x"] else self._draw(st.sampled_from(["1", "2026-01-02", "k"]))
                made[str(key)] = self.of(rest)
        return made


@st.composite
def workflows(draw: Callable[[Any], Any]) -> tuple[Any, dict[str, Any]]:
    """A callable, and the hints of the parameters that its callers may give."""
    hints = draw(st.dictionaries(st.sampled_from(["first", "second", "third", "data"]), HINTS, max_size=3))
    kinds = [inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY]
    chosen = sorted(draw(st.sampled_from(kinds)) for _ in hints)
    aliases = {name: draw(st.sampled_from([None, f"{name}Alias"])) for name in hints}
    hints = {
        name: Annotated[hint, pydantic.Field(alias=aliases[name])] if aliases[name] else hint
        for name, hint in hints.items()
    }
    parameters = [
        inspect.Parameter(name, kind, annotation=hint) for (name, hint), kind in zip(hints.items(), chosen, strict=True)
    ]
    if parameters and chosen[-1] is not inspect.Parameter.POSITIONAL_ONLY:
        parameters[-1] = parameters[-1].replace(
            default=draw(st.sampled_from([inspect.Parameter.empty, None, object()]))
        )
    if draw(st.booleans()):
        hints["more"] = draw(st.sampled_from([str, int, Any]))
        parameters.append(inspect.Parameter("more", inspect.Parameter.VAR_KEYWORD, annotation=hints["more"]))

    def work(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.Signature(parameters).bind(*args, **kwargs)
        return dict(bound.arguments)

    async def work_async(*args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)

    chosen_work: Any = work_async if draw(st.booleans()) else work
    chosen_work.__signature__ = inspect.Signature(parameters)
    chosen_work.__annotations__ = hints
    return chosen_work, hints


@pytest.fixture(name="platform", scope="module")
def platform_fixture() -> Iterator[tuple[Nexus, asyncio.Runner]]:
    nexus = Nexus(discover=False)
    logging.getLogger("nexus_core.pipeline.execution").setLevel(logging.CRITICAL)
    with asyncio.Runner() as runner:
        runner.run(nexus.__aenter__())
        yield nexus, runner
        runner.run(nexus.__aexit__())
    logging.getLogger("nexus_core.pipeline.execution").setLevel(logging.NOTSET)


MOST = 40
BOUNDED = settings(
    max_examples=MOST,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@BOUNDED
@given(st.data())
def test_what_the_schema_allows_can_be_called(platform: Any, data: st.DataObject) -> None:
    nexus, runner = platform
    function, _ = data.draw(workflows(), "workflow")
    try:
        workflow = nexus.register("work", function, replace=True)
    except ConfigurationError:
        return  # it is refused when it is registered, in words
    params = Values(data.draw, workflow.input_schema).of(workflow.input_schema)
    if Validator(workflow.input_schema).errors(params):
        return  # what these values do not follow, such as names of members that are keys of another type
    try:
        runner.run(nexus.invoke("work", params))
    except ValidationError:
        pass  # what no schema says, such as a day that does not exist


@BOUNDED
@given(st.data())
def test_what_comes_in_goes_out_as_the_output_schema_says(platform: Any, data: st.DataObject) -> None:
    nexus, runner = platform
    hint = data.draw(HINTS, "hint")

    def echo(value):  # type: ignore[no-untyped-def]
        return value

    echo.__annotations__ = {"value": hint, "return": hint}
    try:
        workflow = nexus.register("echo", echo, replace=True)
    except ConfigurationError:
        return
    params = {"value": Values(data.draw, workflow.input_schema).of(workflow.input_schema["properties"]["value"])}
    if Validator(workflow.input_schema).errors(params):
        return
    try:
        first = runner.run(nexus.invoke("echo", params)).value
    except ValidationError:
        return
    assert runner.run(nexus.invoke("echo", {"value": first})).value == first
