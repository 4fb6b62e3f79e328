"""Every way of making a callable: what it publishes is what it takes."""

from __future__ import annotations

import functools
import inspect
import typing
import warnings
from typing import Annotated, Any

import pydantic
import pytest

from nexus_core import ConfigurationError, Context, ValidationError


def add(a: int, b: int, c: int = 3) -> int:
    """Add up."""
    return a * 100 + b * 10 + c


async def add_async(a: int, b: int = 2) -> int:
    return a + b


async def stream(a: int) -> Any:
    yield a


def by_position(a: int, /, b: int = 1, *, c: int = 0) -> int:
    return a + b + c


def rest(a: int, **more: int) -> dict[str, int]:
    return {"a": a, **more}


@functools.singledispatch
def dispatch(a: int) -> str:
    return type(a).__name__


class Shop:
    def __init__(self, first: int = 0) -> None:
        self.first = first

    def method(self, a: int) -> int:
        """Add the first."""
        return a + self.first

    async def method_async(self, a: int) -> int:
        return a + self.first

    @staticmethod
    def static(a: int) -> int:
        return a

    @classmethod
    def of_class(cls, a: int) -> str:
        return f"{cls.__name__}{a}"

    def __call__(self, a: int) -> int:
        return a + self.first

    part = functools.partialmethod(method, 5)

    @functools.cache  # noqa: B019  (what is looked at is that it works)
    def cached(self, a: int) -> int:
        return a


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Wrapper:
    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def updated(function: functools.partial[Any]) -> Any:
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    return functools.update_wrapper(function, inner)


def signed(**given: Any) -> int:
    return sum(given.values())


signed.__signature__ = inspect.signature(lambda x, y=2: None)  # type: ignore[attr-defined]

WAYS: dict[str, tuple[Any, list[str], list[str], Any]] = {
    "partial": (functools.partial(add, 10), ["b", "c"], ["b"], 1013),
    "partial by name": (functools.partial(add, b=5), ["a", "b", "c"], ["a"], 153),
    "updated partial": (updated(functools.partial(add, 10)), ["b", "c"], ["b"], 1013),
    "updated partial by name": (updated(functools.partial(add, b=5)), ["a", "b", "c"], ["a"], 153),
    "nested partial": (functools.partial(functools.partial(add, 1), c=9), ["b", "c"], ["b"], 119),
    "decorated partial": (decorated(functools.partial(add, 10)), ["b", "c"], ["b"], 1013),
    "decorated updated partial": (decorated(updated(functools.partial(add, 10))), ["b", "c"], ["b"], 1013),
    "partial of decorated": (functools.partial(decorated(add), 10), ["b", "c"], ["b"], 1013),
    "updated partial of decorated": (updated(functools.partial(decorated(add), 10)), ["b", "c"], ["b"], 1013),
    "cached partial": (functools.cache(updated(functools.partial(add, 10))), ["b", "c"], ["b"], 1013),
    "async partial": (updated(functools.partial(add_async, 1)), ["b"], [], 3),
    "partial stream": (updated(functools.partial(stream, 3)), [], [], [3]),
    "partial of a method": (updated(functools.partial(Shop.method, Shop(2))), ["a"], ["a"], 3),
    "partial method": (Shop(1).part, [], [], 6),
    "bound method": (Shop(1).method, ["a"], ["a"], 2),
    "async method": (Shop(1).method_async, ["a"], ["a"], 2),
    "static method": (Shop.static, ["a"], ["a"], 1),
    "static method object": (Shop.__dict__["static"], ["a"], ["a"], 1),
    "class method": (Shop.of_class, ["a"], ["a"], "Shop1"),
    "cached method": (Shop().cached, ["a"], ["a"], 1),
    "decorated method": (decorated(Shop(1).method), ["a"], ["a"], 2),
    "object": (Shop(1), ["a"], ["a"], 2),
    "object around a function": (Wrapper(add), ["a", "b", "c"], ["a", "b"], 113),
    "object around a partial": (Wrapper(updated(functools.partial(add, 1))), ["b", "c"], ["b"], 113),
    "cached": (functools.lru_cache(maxsize=3)(add), ["a", "b", "c"], ["a", "b"], 113),
    "by position": (by_position, ["a", "b", "c"], ["a"], 2),
    "partial by position": (functools.partial(by_position, 4), ["b", "c"], [], 5),
    "single dispatch": (dispatch, ["a"], ["a"], "int"),
    "checked by pydantic": (pydantic.validate_call(add_async), ["a", "b"], ["a"], 3),
    "a signature of its own": (signed, ["x", "y"], ["x"], 1),
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_published_is_what_can_be_called(make: Any, way: str) -> None:
    function, properties, required, value = WAYS[way]
    nexus = make()
    workflow = nexus.register("work", function)
    assert list(workflow.input_schema["properties"]) == properties
    assert workflow.input_schema["required"] == required
    assert (await nexus.invoke("work", dict.fromkeys(required, 1))).value == value


@pytest.mark.parametrize("function", [Shop.method, Shop.method_async, decorated(Shop.method), Shop.part, Shop.cached])
def test_a_method_without_its_object_is_refused(make: Any, function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is a method, and callers can't give its 'self'. .*staticmethod"):
        make().register("work", function)


def test_decorated_in_the_body_of_a_class(make: Any) -> None:
    nexus = make()
    with pytest.raises(ConfigurationError, match="is a method"):

        class _Shop:
            @nexus.workflow
            def work(self, a: int) -> int:
                return a

    with pytest.raises(ConfigurationError, match="register it after the class"):

        class _Other:
            @nexus.workflow(name="other")
            @classmethod
            def work(cls, a: int) -> int:
                return a

    class _Third:
        @nexus.workflow
        @staticmethod
        def work(a: int) -> int:
            return a

    assert nexus.workflows.get("work").input_schema["required"] == ["a"]


def test_a_parameter_called_self_is_one_elsewhere(make: Any) -> None:
    def work(self: int) -> int:
        return self

    assert make().register("work", work).input_schema["required"] == ["self"]


@pytest.mark.parametrize("function", [add_async, stream])
def test_a_cache_of_what_can_be_used_once_is_refused(make: Any, function: Any) -> None:
    with pytest.raises(ConfigurationError, match="can be used once"):
        make().register("work", functools.cache(function))


def aliased(
    user_name: Annotated[str, pydantic.Field(alias="userName", min_length=2)],
    number: int = pydantic.Field(3, alias="theNumber", description="How many."),
    kept: Annotated[int | None, pydantic.Field(validation_alias=pydantic.AliasChoices("theKept", "k"))] = None,
) -> list[Any]:
    return [user_name, number, kept]


async def test_an_alias_is_the_name_that_callers_use(make: Any) -> None:
    nexus = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schema = nexus.register("work", aliased).input_schema
    assert list(schema["properties"]) == ["userName", "theNumber", "theKept"]
    assert schema["required"] == ["userName"]
    assert schema["properties"]["userName"]["minLength"] == 2
    assert schema["properties"]["theNumber"] == {"default": 3, "description": "How many.", "type": "integer"}
    assert (await nexus.invoke("work", {"userName": "ab"})).value == ["ab", 3, None]
    assert (await nexus.invoke("work", {"userName": "ab", "theNumber": 4, "theKept": 5})).value == ["ab", 4, 5]
    with pytest.raises(ValidationError) as caught:
        await nexus.invoke("work", {"user_name": "ab"})
    assert {each["pointer"] for each in caught.value.errors} == {"/userName", "/user_name"}
    with pytest.raises(ValidationError) as caught:
        await nexus.invoke("work", {"userName": "a"})
    assert caught.value.errors[0]["pointer"] == "/userName"


@pytest.mark.filterwarnings("ignore:A 'default_factory'")
async def test_aliases_may_be_each_others_names(make: Any) -> None:
    def work(
        a: Annotated[int, pydantic.Field(alias="b")],
        b: Annotated[int, pydantic.Field(alias="a")],
        c: int = pydantic.Field(default_factory=lambda known: known["a"] * 10),
    ) -> list[int]:
        return [a, b, c]

    nexus = make()
    nexus.register("work", work)
    assert (await nexus.invoke("work", {"a": 1, "b": 2})).value == [2, 1, 20]


def test_an_alias_is_one_name_of_one_parameter(make: Any) -> None:
    def path(a: Annotated[int, pydantic.Field(validation_alias=pydantic.AliasPath("b", 0))]) -> None: ...

    def equal(a: Annotated[int, pydantic.Field(alias="b")], b: int) -> None: ...

    def context(context: Context, a: Annotated[int, pydantic.Field(alias="context")]) -> None: ...

    with pytest.raises(ConfigurationError, match="one name, not a path"):
        make().register("work", path)
    for function in (equal, context):
        with pytest.raises(ConfigurationError, match="names another parameter too"):
            make().register("work", function)


class Options(typing.TypedDict, total=False):
    size: typing.Required[int]
    note: Annotated[str, pydantic.Field(min_length=2)]


async def test_members_of_an_unpacked_dictionary_are_parameters(make: Any) -> None:
    def work(a: int, **options: typing.Unpack[Options]) -> dict[str, Any]:
        return {"a": a, **options}

    nexus = make()
    schema = nexus.register("work", work).input_schema
    assert (list(schema["properties"]), schema["required"]) == (["a", "size", "note"], ["a", "size"])
    assert schema["properties"]["note"] == {"type": "string", "minLength": 2}
    assert (await nexus.invoke("work", {"a": 1, "size": 2})).value == {"a": 1, "size": 2}
    with pytest.raises(ValidationError):
        await nexus.invoke("work", {"a": 1, "size": 2, "other": 3})


async def test_names_of_hidden_parameters_are_not_for_the_rest(make: Any) -> None:
    def work(context: Context, a: Annotated[int, pydantic.Field(alias="b")], **more: int) -> dict[str, int]:
        return {"a": a, **more}

    nexus = make()
    nexus.register("work", work)
    assert (await nexus.invoke("work", {"b": 1, "c": 2})).value == {"a": 1, "c": 2}
    for name in ("a", "context"):
        with pytest.raises(ValidationError):
            await nexus.invoke("work", {"b": 1, name: 2})
