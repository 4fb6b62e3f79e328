"""Parameter resolvers: what they get of a request, what becomes of their answers, and what nobody can pass off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_core import (
    Channel,
    ConfigurationError,
    Invocation,
    NexusError,
    ParameterResolver,
    ParameterSource,
    ValidationError,
    WorkflowNotFound,
    WorkflowTimeout,
    hookimpl,
)
from nexus_core.pipeline.resolvers import _MEMBERS, outcome, raw_parameters

HEADERS = {b"x-user-id": b"ada", b"authorization": b"Bearer secret", b"cookie": b"sid=secret", b"x-api-key": b"secret"}


SOURCES = {"api": ParameterSource.BODY, "cli": ParameterSource.OPTION, "mcp": ParameterSource.TOOL}


class NamedChannel(Channel):
    def __init__(self, name: str, source: ParameterSource) -> None:
        self.name, self.parameter_source = name, source


class Channels:
    @hookimpl
    def nexus_register_channels(self) -> list[Channel]:
        return [NamedChannel(name, source) for name, source in SOURCES.items()]


class Resolver(ParameterResolver):
    """Does what a function says, and remembers what it got."""

    def __init__(self, function: Any = None) -> None:
        self.got: list[Any] = []
        self._function = function

    async def resolve_parameters(self, workflow_name: str, channel: str, raw_params: dict[str, Any]) -> Any:
        self.got.append(raw_params)
        base = super().resolve_parameters(workflow_name, channel, raw_params)
        return base if self._function is None else self._function(base, raw_params)


def call(channel: str = "api", **params: Any) -> Invocation:
    return Invocation("work", params, channel, headers=HEADERS, query=b"page=2&page=3&empty=", request_id="7")


@pytest.fixture(name="start")
async def start_fixture(make: Any) -> Any:
    async def start(*functions: Any, workflow: Any = None, **options: Any) -> Any:
        nexus = make(Channels(), **options)

        def work(a: int = 0, b: str | None = None, c: str = "none") -> list[Any]:
            return [a, b, c]

        nexus.register("work", workflow or work)
        resolvers = [each if isinstance(each, ParameterResolver) else Resolver(each) for each in functions]
        for each in resolvers:
            nexus.register_parameter_resolver(each)
        return nexus, resolvers

    return start


@pytest.mark.parametrize(
    ("channel", "members"),
    [
        ("api", {"headers": {"x-user-id": "ada"}, "query": {"page": "3", "empty": ""}, "body": {"a": 1}}),
        ("cli", {"args": [], "kwargs": {"a": 1}}),
        ("mcp", {"tool_name": "work", "tool_id": "7", "parameters": {"a": 1}}),
        ("python", {}),
    ],
)
async def test_what_each_channel_gives(start: Any, channel: str, members: dict[str, Any]) -> None:
    nexus, (resolver,) = await start(None)
    async with nexus:
        assert (await nexus.invoke(call(channel, a=1))).value == [1, None, "none"]
    (got,) = resolver.got
    assert got == {"a": 1} | members
    assert "secret" not in str(got)
    sources = {"api": "body", "cli": "option", "mcp": "tool", "python": "code"}
    assert got.source_of("a") == sources[channel]
    assert got.source_of("no such") is None
    if channel == "api":
        assert (got.source_of("headers"), got.source_of("query")) == (ParameterSource.HEADER, ParameterSource.QUERY)


@given(
    params=st.dictionaries(st.sampled_from([*_MEMBERS, "a", "b"]), st.dictionaries(st.text(), st.text())),
    channel=st.sampled_from(["api", "cli", "mcp", "python", "grpc"]),
)
def test_no_parameter_can_be_passed_off_as_the_request(params: dict[str, Any], channel: str) -> None:
    invocation = call(channel)
    invocation.params = params
    raw = raw_parameters(invocation, params, frozenset(), SOURCES.get(channel, ParameterSource.CODE))
    expected = {
        "headers": {"x-user-id": "ada"}, "query": {"page": "3", "empty": ""}, "body": params, "args": [],
        "kwargs": params, "tool_name": "work", "tool_id": "7", "parameters": params,
    }  # fmt: skip
    for name in _MEMBERS.keys() & raw.keys():
        assert raw[name] == expected[name]
    assert raw.given == params
    assert ParameterResolver().resolve_parameters("work", channel, raw) == params
    assert outcome(None, dict(raw), raw) == params  # handed on as a whole, it is the caller's parameters again


async def test_what_is_added_and_not_taken_is_left_out(start: Any) -> None:
    nexus, _ = await start(lambda base, raw: base | {"user_id": "ada", "b": "added", "c": None, "headers": {}})
    async with nexus:
        assert (await nexus.invoke(call(a=1))).value == [1, "added", "none"]
        with pytest.raises(ValidationError) as caught:
            await nexus.invoke(call(no_such=1))
        assert caught.value.errors[0]["pointer"] == "/no_such"


async def test_what_the_caller_gave_is_checked_whatever_became_of_it(start: Any) -> None:
    nexus, _ = await start(lambda base, raw: {name: "changed" for name in base})
    async with nexus:
        for name, pointer in (("a", "/a"), ("no_such", "/no_such")):
            with pytest.raises(ValidationError) as caught:
                await nexus.invoke(call(**{name: 1}))
            assert caught.value.errors[0]["pointer"] == pointer


async def test_what_a_resolver_has_cleaned_stays_clean(start: Any) -> None:
    nexus, _ = await start(lambda base, raw: {"body": "clean"}, workflow=lambda body: body)
    async with nexus:
        for channel in ("api", "python"):
            assert (await nexus.invoke(Invocation("work", {"body": "<evil>"}, channel))).value == "clean"


async def test_who_changes_what_it_got_passes_no_request_on(start: Any) -> None:
    def changed(base: Any, raw: Any) -> Any:
        return dict(raw) | {"a": raw["a"] + 1}

    nexus, _ = await start(changed)
    async with nexus:
        assert (await nexus.invoke(call(a=1))).value == [2, None, "none"]


async def test_several_get_what_the_one_before_has_returned(start: Any) -> None:
    nexus, (_, second) = await start(
        lambda base, raw: base | {"b": "one"}, lambda base, raw: base | {"b": raw["b"] + "!"}
    )
    async with nexus:
        assert (await nexus.invoke(call(a=1))).value == [1, "one!", "none"]
    (got,) = second.got
    assert (got.source_of("b"), got.source_of("a")) == (ParameterSource.RESOLVER, ParameterSource.BODY)
    assert got["headers"] == {"x-user-id": "ada"}
    assert got["body"] == {"a": 1}


async def test_a_workflow_may_take_what_is_called_like_a_part_of_the_request(start: Any) -> None:
    def work(headers: dict, body: dict) -> list[Any]:
        return [headers, body]

    nexus, _ = await start(lambda base, raw: dict(raw), workflow=work)
    async with nexus:
        assert (await nexus.invoke(call(headers={"x": 1}, body={"y": 2}))).value == [{"x": 1}, {"y": 2}]


async def test_validation_early_is_the_same(start: Any) -> None:
    def validated(base: Any, raw: Any) -> Any:
        resolver.validate_parameters("work", base | {"extra": 1, "c": None})
        return base

    nexus, (resolver,) = await start(validated)
    async with nexus:
        assert (await nexus.invoke(call(a=1))).value == [1, None, "none"]
        with pytest.raises(ValidationError) as caught:
            await nexus.invoke(call(a="x"))
        assert caught.value.errors[0]["pointer"] == "/a"
        with pytest.raises(WorkflowNotFound):
            resolver.validate_parameters("no_such", {})


@pytest.mark.parametrize("returned", [None, [], "text", {1: 2}, 7])
async def test_an_answer_that_is_no_dictionary_is_the_resolvers_fault(
    start: Any, caplog: pytest.LogCaptureFixture, returned: Any
) -> None:
    nexus, _ = await start(lambda base, raw: returned)
    async with nexus:
        with pytest.raises(NexusError) as caught:
            await nexus.invoke(call(a=1))
    assert caught.value.code == "internal_error"
    assert "Resolver.resolve_parameters returned a" in caplog.text


async def test_what_it_raises_stays_in_the_log(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(base: Any, raw: Any) -> Any:
        raise {"own": ValidationError("/a: not today"), "other": OSError("the password"), "late": TimeoutError("x")}[
            raw["b"]
        ]

    nexus, _ = await start(fail)
    async with nexus:
        with pytest.raises(ValidationError, match="not today"):
            await nexus.invoke(call(b="own"))
        for kind in ("other", "late"):
            with pytest.raises(NexusError) as caught:
                await nexus.invoke(call(b=kind))
            assert (caught.value.code, "password" in str(caught.value.problem())) == ("internal_error", False)
    assert "the password" in caplog.text


async def test_one_that_hangs_costs_the_time_of_a_run(start: Any) -> None:
    class Hangs(ParameterResolver):
        async def resolve_parameters(self, workflow_name: str, channel: str, raw_params: dict[str, Any]) -> Any:
            await asyncio.Event().wait()

    nexus, _ = await start(Hangs(), workflow_timeout=0.2)
    async with nexus:
        with pytest.raises(WorkflowTimeout, match="not resolved"):
            await nexus.invoke(call(a=1))
        assert nexus.places_in_use == 0


def test_it_belongs_to_one_platform(make: Any) -> None:
    resolver = ParameterResolver()
    with pytest.raises(ConfigurationError, match="not registered"):
        resolver.validate_parameters("work", {})
    nexus = make()
    nexus.register_parameter_resolver(resolver)
    nexus.register_parameter_resolver(resolver)
    with pytest.raises(ConfigurationError, match="one Nexus"):
        make().register_parameter_resolver(resolver)


def test_transformations_are_there_for_any_workflow() -> None:
    class Doubles(ParameterResolver):
        def transform_work_params(self, params: dict[str, int]) -> dict[str, int]:
            return {name: 2 * value for name, value in params.items()}

    assert Doubles().transform_work_params({"a": 1}) == {"a": 2}
    assert Doubles().transform_other_params({"a": 1}) == {"a": 1}
    with pytest.raises(AttributeError):
        _ = Doubles().transform_work
    with pytest.raises(AttributeError):
        _ = Doubles().no_such
