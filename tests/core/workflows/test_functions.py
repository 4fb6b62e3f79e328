"""What can be registered as a workflow, at its edges."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import functools
import threading
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pydantic
import pytest

from nexus_core import ConfigurationError, Context, Invocation, Stage, ValidationError, WorkflowFailed
from nexus_core.schema.validation import MAX_ERRORS
from nexus_core.testing import stage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


@dataclasses.dataclass
class Point:
    x: int


async def call(nexus: Any, function: Callable[..., Any], **params: Any) -> Any:
    nexus.register("w", function, replace=True)
    return (await nexus.invoke("w", params)).value


async def test_a_positional_default_that_is_skipped_keeps_its_place(make: Any) -> None:
    def work(a: int = 1, b: int = 2, /, c: int = 3) -> list[int]:
        return [a, b, c]

    nexus = make()
    assert await call(nexus, work, b=5) == [1, 5, 3]
    assert await call(nexus, work, c=5) == [1, 2, 5]
    assert await call(nexus, work, a=7, b=8, c=9) == [7, 8, 9]


async def test_a_positional_context(make: Any) -> None:
    def work(context: Context, a: int = 1, /) -> list[Any]:
        return [context.workflow, a]

    assert await call(make(), work) == ["w", 1]
    assert await call(make(), work, a=2) == ["w", 2]


async def test_further_named_values_become_the_annotated_type(make: Any) -> None:
    def work(a: Any, **rest: Point) -> list[Any]:
        return [a, sum(point.x for point in rest.values())]

    nexus = make()
    assert await call(nexus, work, a={"x": 1}, b={"x": 2}, c={"x": 3}) == [{"x": 1}, 5]
    with pytest.raises(ValidationError) as caught:
        await call(nexus, work, a=1, b={"x": "2"})
    assert caught.value.errors[0]["pointer"] == "/b/x"


@pytest.mark.parametrize("hint", [Context, "Context", "Context | None", "typing.Optional[Context]"])
async def test_the_context_is_found_under_any_name(make: Any, hint: Any) -> None:
    import typing

    def work(n, whatever=None):  # type: ignore[no-untyped-def]
        return [n, whatever.workflow]

    work.__annotations__ = {"n": int, "whatever": hint}
    work.__globals__["typing"] = typing
    nexus = make()
    assert await call(nexus, work, n=1) == [1, "w"]
    assert list(nexus.workflows.get("w").input_schema["properties"]) == ["n"]
    with pytest.raises(ValidationError, match="/whatever"):
        await call(nexus, work, n=1, whatever=2)


async def test_sync_decorators_around_async_functions(make: Any) -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    @functools.wraps(add)
    def with_a_loop_of_its_own(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(add(*args, **kwargs))

    @functools.wraps(add)
    def passes_on(*args: Any, **kwargs: Any) -> Any:
        return add(*args, **kwargs)

    @functools.wraps(count)
    def passes_a_stream_on(*args: Any, **kwargs: Any) -> Any:
        return count(*args, **kwargs)

    nexus = make()
    assert await call(nexus, with_a_loop_of_its_own, a=1, b=2) == 3
    assert await call(nexus, passes_on, a=1, b=2) == 3
    assert await call(nexus, passes_a_stream_on, n=3) == [0, 1, 2]


class Maker:
    @classmethod
    def of_class(cls, a: int) -> str:
        return f"{cls.__name__} {a}"

    @staticmethod
    def static(a: int) -> int:
        return a

    async def __call__(self, a: int) -> int:
        """Call it."""
        return a


async def test_methods_and_objects(make: Any) -> None:
    nexus = make()
    assert await call(nexus, Maker.of_class, a=1) == "Maker 1"
    assert await call(nexus, Maker.static, a=1) == 1
    assert await call(nexus, Maker().of_class, a=1) == "Maker 1"
    assert await call(nexus, functools.partial(Maker(), a=3)) == 3
    assert await call(nexus, functools.partial(lambda x, y: [x, y], 1), y=2) == [1, 2]


class Counter:
    """Counts."""

    def __call__(self, n: int) -> Any:
        """Count.

        Args:
            n: How far.
        """
        yield from range(n)


class AsyncCounter:
    async def __call__(self, n: int) -> Any:
        for each in range(n):
            yield each


class Model(pydantic.BaseModel):
    a: int


async def test_callable_objects_and_declared_iterators_stream(make: Any) -> None:
    def declared(n: int) -> Iterator[int]:
        return iter(range(n))

    async def numbers(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    def declared_async(n: int) -> AsyncIterator[int]:
        return numbers(n)

    nexus = make()
    for target in (
        Counter(), AsyncCounter(), functools.partial(Counter()), functools.partial(AsyncCounter()), declared,
        declared_async, functools.partial(functools.partial(numbers)),
    ):  # fmt: skip
        assert await call(nexus, target, n=3) == [0, 1, 2]
        assert nexus.workflows.get("w").streams


async def test_a_decorator_that_collects_a_stream(make: Any) -> None:
    async def numbers(n: int):  # type: ignore[no-untyped-def]
        for number in range(n):
            yield number

    @functools.wraps(numbers)
    async def collected(*args: Any, **kwargs: Any) -> Any:
        return [each async for each in numbers(*args, **kwargs)]

    nexus = make()
    assert await call(nexus, collected, n=3) == [0, 1, 2]
    assert not nexus.workflows.get("w").streams


def test_objects_and_partial_calls_are_described_by_what_they_call(make: Any) -> None:
    nexus = make()
    counter = nexus.register("counter", Counter())
    assert (counter.description, counter.input_schema["properties"]["n"]["description"]) == ("Counts.", "How far.")
    partial = nexus.register("partial", functools.partial(Maker(), a=3))
    assert partial.description == "Call it."


def test_a_class_is_called_with_its_signature(make: Any) -> None:
    assert make().register("model", Model).input_schema["properties"] == {"a": {"type": "integer"}}


async def test_pydantics_fields_give_defaults_and_limits(make: Any) -> None:
    def work(
        a: int = pydantic.Field(5, ge=1), /, *, b: Annotated[list[int], pydantic.Field(default_factory=list)],
        c: int = pydantic.Field(),
    ) -> list[Any]:  # fmt: skip
        b.append(a)
        return [a, b, c]

    nexus = make()
    for _ in range(2):
        assert await call(nexus, work, c=1) == [5, [5], 1]
    schema = nexus.workflows.get("w").input_schema
    assert schema["required"] == ["c"]
    assert schema["properties"]["a"] == {"type": "integer", "minimum": 1, "default": 5}
    with pytest.raises(ValidationError, match="/a: expected at least 1"):
        await call(nexus, work, a=0, c=1)


async def test_a_context_may_be_annotated_further(make: Any) -> None:
    def work(context: Annotated[Context, "the run"]) -> str:
        return context.workflow

    assert await call(make(), work) == "w"


async def test_a_sync_stream_that_fails_is_closed_at_once(make: Any) -> None:
    closed: list[str] = []

    def work() -> Any:
        try:
            yield float("nan")
        finally:
            closed.append(threading.current_thread().name)

    nexus = make()
    with pytest.raises(WorkflowFailed) as failed:
        await call(nexus, work)
    assert closed == ["nexus-workflow"]
    assert failed.value.run_id  # held until here: the exception, and with it the stream's frame


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_type_whose_check_would_end_the_process_fails_its_workflow(make: Any, raised: BaseException) -> None:
    class Strict(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def _check(cls, n: int) -> int:
            raise raised

    def work(item: Any) -> None: ...

    work.__annotations__ = {"item": Strict}
    with pytest.raises(WorkflowFailed, match="under the run's id"):
        await call(make(), work, item={"n": 1})


async def test_a_broken_check_tells_the_caller_nothing_of_the_server(make: Any, caplog: Any) -> None:
    class Broken(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def _check(cls, n: int) -> int:
            return n + "hunter2"  # type: ignore[operator]

    def work(item: Any) -> None: ...

    work.__annotations__ = {"item": Broken}
    with pytest.raises(WorkflowFailed) as failed:
        await call(make(), work, item={"n": 1})
    assert "unsupported operand" not in str(failed.value.problem())
    assert "unsupported operand" in caplog.text


@dataclasses.dataclass
class LostField:
    x: Nowhere  # type: ignore[name-defined]  # noqa: F821


class LostMember(msgspec.Struct):
    x: Nowhere  # type: ignore[name-defined]  # noqa: F821


class LostAttribute(pydantic.BaseModel):
    x: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Opaque:
    pass


class Holder(msgspec.Struct):
    opaque: Opaque


@pytest.mark.parametrize("hint", [LostField, LostMember, LostAttribute, Opaque, list[Opaque], Holder, "(int) -> int"])
def test_the_message_names_workflow_and_parameter(make: Any, hint: Any) -> None:
    from collections.abc import Callable

    def work(fine, good, wrong, late):  # type: ignore[no-untyped-def]
        return None

    wrong = Callable[[int], int] if hint == "(int) -> int" else hint
    work.__annotations__ = {"fine": int, "good": dict[str, int], "wrong": wrong, "late": str}
    with pytest.raises(ConfigurationError, match=r"^w: The annotation of wrong "):
        make().register("w", work)


def test_a_result_without_a_json_form_is_refused_at_registration(make: Any) -> None:
    def work() -> Opaque:
        return Opaque()

    with pytest.raises(ConfigurationError, match=r"^w: The annotation of return "):
        make().register("w", work)


async def test_what_has_no_default_must_be_given_whatever_expected_parameters_says(make: Any) -> None:
    def work(a: int, b: int = 2) -> list[int]:
        return [a, b]

    nexus = make()
    workflow = nexus.register("w", work, {"expected_parameters": {"a": {"type": "integer"}, "b": {"type": "integer"}}})
    assert workflow.input_schema["required"] == ["a"]
    with pytest.raises(ValidationError, match="/a: missing"):
        await nexus.invoke("w", {})
    assert (await nexus.invoke("w", {"a": 1})).value == [1, 2]


async def test_a_default_in_expected_parameters_is_put_in_anew_for_each_call(make: Any) -> None:
    def work(items: list[int], n: int = 2) -> list[Any]:
        items.append(n)
        return items

    nexus = make()
    expected = {"items": {"type": "array", "default": [1]}, "n": {"type": "integer", "default": 5}}
    assert nexus.register("w", work, {"expected_parameters": expected}).input_schema["required"] == []
    for _ in range(2):
        assert (await nexus.invoke("w")).value == [1, 5]
    assert (await nexus.invoke("w", {"items": [], "n": 0})).value == [0]


def test_errors_of_a_conversion_are_bounded(make: Any) -> None:
    class Strict(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def _even(cls, n: int) -> int:
            if n % 2:
                raise ValueError("must be even\r\n" + "x" * 1000)
            return n

    def work(many: list[Strict], days: list[datetime.date]) -> None: ...

    work.__annotations__ = {"many": list[Strict], "days": list[datetime.date]}
    workflow = make().register("w", work)
    with pytest.raises(ValidationError) as caught:
        workflow.prepare({"many": [{"n": 1}] * 500, "days": ["2026-01-01"]})
    assert len(caught.value.errors) == MAX_ERRORS
    assert all(each["message"].isprintable() and len(each["message"]) <= 300 for each in caught.value.errors)
    assert caught.value.errors[1]["pointer"] == "/many/1/n"


async def test_a_sync_stream_stops_when_its_run_is_cancelled(make: Any) -> None:
    nexus = make()
    made: list[int] = []

    @nexus.workflow
    def endless() -> Any:
        while True:
            made.append(1)
            yield "x"

    run = nexus.submit(Invocation("endless", {}))
    async for event in run.follow():
        if event.type == "workflow.output":
            run.cancel()
    assert run.status == "cancelled"
    async with asyncio.timeout(5):
        while stage_of(nexus, Stage.ADMIT).in_use:
            await asyncio.sleep(0.005)
    ended = len(made)
    await asyncio.sleep(0.02)
    assert len(made) == ended


async def test_a_function_that_uses_what_is_defined_below_it(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def work(n: int) -> int:
        return later(n)

    def later(n: int) -> int:
        return n + 1

    assert (await nexus.invoke("work", {"n": 1})).value == 2
