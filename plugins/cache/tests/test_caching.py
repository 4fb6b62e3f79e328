"""What is kept, for whom and for how long."""

from __future__ import annotations

import asyncio
import functools
import math
import time

import pytest

from nexus_core import (
    ConfigurationError,
    Context,
    Invocation,
    Principal,
    Result,
    Stage,
    ValidationError,
    WorkflowError,
    WorkflowFailed,
    hookimpl,
)
from nexus_core.testing import eventually, isolated_nexus, stage_of, stages_of


async def test_an_equal_call_gets_the_first_answer_and_does_not_run(start, call):
    nexus = await start()
    first = await nexus.invoke(call(n=1))
    again = await nexus.invoke(call(n=1))
    assert (first.cached, again.cached) == (False, True)
    assert again.reply() == first.reply()[:-1] + b',"cached":true}'
    assert again.duration == first.duration
    assert nexus.ran == [1]


async def test_a_call_with_an_idempotency_key_is_kept_under_that_alone(start, call):
    nexus = await start()

    async def keyed():
        invocation = call(n=1)
        invocation.idempotency_key = "k"
        return await nexus.invoke(invocation)

    assert not (await nexus.invoke(call(n=1))).cached
    first, again = await keyed(), await keyed()
    assert (first.cached, first.value["run"]) == (False, 2)
    assert (again.cached, again.replayed, again.value["run"]) == (False, True, 2)
    assert (await nexus.invoke(call(n=1))).value["run"] == 1


async def test_caching_is_off_until_it_is_asked_for(start, call):
    nexus = await start(enable_caching=False)
    assert [(await nexus.invoke(call(n=1))).cached for _ in range(2)] == [False, False]
    assert nexus.ran == [1, 1]
    assert not any(each.stage == Stage.CACHE for each in stages_of(nexus))


async def test_parameters_are_equal_whatever_their_order_and_different_whatever_they_look_like(start):
    nexus = await start()
    ran = []

    @nexus.workflow
    async def show(a: object = None, b: object = None) -> str:
        ran.append((a, b))
        return f"{a!r} {b!r}"

    assert not (await nexus.invoke("show", {"a": 1, "b": 2})).cached
    assert (await nexus.invoke("show", {"b": 2, "a": 1})).cached
    nested = [{"a": {"x": 1, "y": [1, 2]}}, {"a": {"y": [1, 2], "x": 1}}, {"a": {"y": [2, 1], "x": 1}}]
    assert [(await nexus.invoke("show", each)).cached for each in nested] == [False, True, False]
    alike = [{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {"b": 1}, {}, {"a": ""}, {"a": []}, {"a": {}}]
    assert [(await nexus.invoke("show", each)).cached for each in alike] == [False] * len(alike)


async def test_two_callers_never_see_each_others_results(start, call):
    nexus = await start()
    people = [None, "ada", "bob", Principal("x", tenant_id="a"), Principal("x", tenant_id="b"), Principal("a/x"),
              Principal("x"), Principal("null"), Principal("")]  # fmt: skip
    for expected in (False, True):
        answers = [await nexus.invoke(call(user=each)) for each in people]
        assert [each.cached for each in answers] == [expected] * len(people)
        assert [each.value["run"] for each in answers] == [*range(1, len(people) + 1)]


async def test_a_shared_result_is_everybodys(start, call, add_count):
    nexus = await start()
    ran = add_count(nexus, cache="shared")
    assert [(await nexus.invoke(call(user=each))).value["run"] for each in (None, "ada", "bob")] == [1, 1, 1]
    assert len(ran) == 1


async def test_a_returned_value_is_each_callers_own(start, call):
    nexus = await start()
    (await nexus.invoke(call())).value["n"] = "changed"
    again = await nexus.invoke(call())
    again.value["n"] = "changed"
    assert (await nexus.invoke(call())).value == {"n": 0, "run": 1}


@pytest.mark.parametrize("error", [WorkflowError("The order is empty."), RuntimeError("secret"), None])
async def test_errors_are_never_cached(start, error):
    nexus = await start()
    ran = []

    @nexus.workflow
    async def fails(n: int = 0) -> int:
        ran.append(n)
        if error is None:
            return math.nan
        raise error

    for _ in range(2):
        with pytest.raises(WorkflowFailed):
            await nexus.invoke("fails")
    assert len(ran) == 2


async def test_what_does_not_fit_the_schema_is_refused_with_a_full_cache_too(start, call):
    nexus = await start()
    await nexus.invoke(call(n=1))
    with pytest.raises(ValidationError):
        await nexus.invoke(call(n="1"))


async def test_permissions_are_asked_for_at_each_call(start, call, add_count):
    class Plugin:
        allowed = True

        @hookimpl
        def nexus_register_authorizers(self, nexus):
            return [self]

        async def granted(self, principal, permissions):
            return permissions if self.allowed else ()

    plugin = Plugin()
    nexus = await start(plugin)
    add_count(nexus, cache="shared", required_permissions=["count"])
    await nexus.invoke(call(user="ada"))
    plugin.allowed = False
    with pytest.raises(Exception, match="needs the permission"):
        await nexus.invoke(call(user="ada"))


async def test_a_result_is_kept_for_as_long_as_the_option_says(start, call):
    nexus = await start(cache_ttl=1)
    await nexus.invoke(call())
    assert (await nexus.invoke(call())).cached
    begin = time.monotonic()
    while (await nexus.invoke(call())).cached:
        assert time.monotonic() - begin < 10
        await asyncio.sleep(0.01)
    assert len(nexus.ran) == 2


async def test_a_workflow_has_its_own_time(start, call, add_count):
    nexus = await start(cache_ttl=0.001)
    add_count(nexus, cache_ttl=60)
    await nexus.invoke(call())
    await asyncio.sleep(0.01)
    assert (await nexus.invoke(call())).cached


async def test_what_was_used_longest_ago_makes_room(start, call):
    nexus = await start(cache_max_entries=2)
    answers = [await nexus.invoke(call(n=n)) for n in (1, 2, 1, 3, 1, 2)]
    assert [each.cached for each in answers] == [False, False, True, False, True, False]


async def test_memory_is_bounded_in_bytes(start):
    nexus = await start(cache_max_bytes=10_000)

    @nexus.workflow
    async def text(n: int, size: int) -> str:
        return "x" * size

    answers = [await nexus.invoke("text", {"n": n, "size": 4000}) for n in (1, 2, 1, 3, 1, 2)]
    assert [each.cached for each in answers] == [False, False, True, False, True, False]
    assert [(await nexus.invoke("text", {"n": 9, "size": 20_000})).cached for _ in range(2)] == [False, False]
    assert (await nexus.invoke("text", {"n": 2, "size": 4000})).cached, "what does not fit drives nobody out"


async def test_large_results_are_not_kept(start):
    nexus = await start(cache_max_entry_bytes=100)

    @nexus.workflow
    async def text(size: int) -> str:
        return "x" * size

    assert [(await nexus.invoke("text", {"size": 99})).cached for _ in range(2)] == [False, False]
    assert [(await nexus.invoke("text", {"size": 98})).cached for _ in range(2)] == [False, True]


async def test_metadata_switches_caching_off(start, call, add_count):
    nexus = await start()
    ran = add_count(nexus, cache=False)
    assert [(await nexus.invoke(call())).cached for _ in range(2)] == [False, False]
    assert len(ran) == 2


@pytest.mark.parametrize(
    "metadata",
    [{"cache": "yes"}, {"cache": 1}, {"cache": "SHARED"}, {"cache": ["shared"]}, {"cache_ttl": 0}, {"cache_ttl": -1},
     {"cache_context_safe": "yes"}, {"cache_ttl": "60"}, {"cache_ttl": True}, {"cache_ttl": 1e9}, {"cache_ttl": [60]}],
)  # fmt: skip
async def test_wrong_metadata_stops_the_start_and_is_not_followed_later(make, metadata, caplog, call, add_count):
    nexus = make()
    add_count(nexus, **metadata)
    (option,) = metadata
    with pytest.raises(ConfigurationError, match=rf"^count: metadata\['{option}'\] must be "):
        async with nexus:
            pass
    nexus.unregister("count")
    async with nexus:
        add_count(nexus, **metadata)
        assert [(await nexus.invoke(call())).cached for _ in range(3)] == [False] * 3
    assert len([each for each in caplog.records if f"metadata['{option}']" in each.getMessage()]) == 1


async def test_wrong_metadata_harms_nobody_while_caching_is_off(make, call, add_count):
    nexus = make(enable_caching=False)
    add_count(nexus, cache="yes")
    async with nexus:
        await nexus.invoke(call())


async def test_a_replaced_workflow_never_gives_the_old_ones_results(start):
    nexus = await start()

    def adder(more):
        async def add(n: int) -> int:
            return n + more

        return add

    for more in (1, 2, 1):  # the same code each time: only what it closes over differs
        nexus.register("add", adder(more), replace=True)
        assert [(await nexus.invoke("add", {"n": 1})).value for _ in range(2)] == [1 + more] * 2
    nexus.unregister("add")
    nexus.register("add", adder(5))
    assert (await nexus.invoke("add", {"n": 1})).value == 6


async def test_a_workflow_that_is_replaced_while_it_runs_leaves_nothing_to_the_new_one(start, call, add_count):
    nexus = await start()
    running = asyncio.create_task(nexus.invoke(call(seconds=0.05)))
    await eventually(lambda: nexus.ran)
    ran = add_count(nexus)
    assert (await nexus.invoke(call(seconds=0.05))).cached is False
    await running
    assert (len(nexus.ran), len(ran)) == (1, 1)


async def test_plans_of_workflows_that_are_gone_are_not_kept(start, call):
    nexus = await start()
    stage = stage_of(nexus, Stage.CACHE)
    for number in range(20):
        name = f"w{number}"
        nexus.register(name, functools.partial(lambda: 1))
        await nexus.invoke(name)
        nexus.unregister(name)
    await nexus.invoke(call())
    assert len(stage.plans) < 5


async def test_a_workflow_that_sees_its_context_is_cached_only_when_it_says_so(start, call):
    nexus = await start()
    ran = []

    async def who(context: Context, n: int = 0) -> str:
        ran.append(n)
        return f"{context.principal.user_id} {sorted(context.principal.permissions)} {sorted(context.principal.scopes)}"

    nexus.register("who", who)
    assert [(await nexus.invoke(call("who", "ada"))).cached for _ in range(2)] == [False, False]
    nexus.register("who", who, {"cache": True}, replace=True)
    people = [Principal("ada"), Principal("ada", frozenset({"read"})), Principal("ada", frozenset(), frozenset({"a"})),
              Principal("bob")]  # fmt: skip
    for expected in (False, True):
        answers = [await nexus.invoke(call("who", each)) for each in people]
        assert [each.cached for each in answers] == [expected] * len(people)
        assert [each.value for each in answers] == ["ada [] []", "ada ['read'] []", "ada [] ['a']", "bob [] []"]


async def test_what_a_session_holds_is_in_no_key(start, call):
    nexus = await start()
    sessions = await nexus.session_store()
    session = await sessions.create("python", None)

    @nexus.workflow(cache=True)
    async def state(context: Context) -> dict:
        return dict(context.session.state) if context.session else {}

    @nexus.workflow(cache="shared", cache_context_safe=True)
    async def plain(context: Context) -> int:
        return 1

    def within(name):
        return Invocation(name, {}, session_id=session.id)

    assert [(await nexus.invoke(within("state"))).cached for _ in range(2)] == [False, False]
    assert [(await nexus.invoke(call("state"))).cached for _ in range(2)] == [False, True]
    assert [(await nexus.invoke(within("plain"))).cached for _ in range(2)] == [False, True]
    assert [(await nexus.invoke(within("count"))).cached for _ in range(2)] == [False, True], "it can't see the session"


async def test_what_may_depend_on_the_caller_is_shared_only_where_it_is_said_to_be_safe(make, caplog, call):
    async def whoami(context: Context) -> str:
        return context.principal.user_id if context.principal else "nobody"

    def register(nexus, **more):
        nexus.register("whoami", whoami, {"cache": "shared", **more})

    nexus = make()
    register(nexus)
    with pytest.raises(ConfigurationError, match=r"^whoami: .*takes a Context.*cache=True.*cache_context_safe=True"):
        async with nexus:
            pass
    nexus.unregister("whoami")
    async with nexus:
        register(nexus)  # after the start: not cached, and the log says so
        answers = [await nexus.invoke(call("whoami", user)) for user in ("ada", "bob", "bob")]
        assert [(each.value, each.cached) for each in answers] == [("ada", False), ("bob", False), ("bob", False)]
        assert "cache_context_safe" in caplog.text
        nexus.unregister("whoami")
        register(nexus, cache_context_safe=True)
        assert [(await nexus.invoke(call("whoami", user))).cached for user in ("ada", "bob")] == [False, True]


async def test_streams_are_cached_only_when_they_say_so(start):
    nexus = await start()

    async def numbers(n: int = 3):
        for number in range(n):
            yield number

    nexus.register("numbers", numbers)
    assert [(await nexus.invoke("numbers")).cached for _ in range(2)] == [False, False]
    nexus.register("numbers", numbers, {"cache": True}, replace=True)
    answers = [await nexus.invoke("numbers") for _ in range(2)]
    assert [(each.value, each.cached) for each in answers] == [([0, 1, 2], False), ([0, 1, 2], True)]


@pytest.mark.parametrize("value", [b"aGk=", {1: 2}, math.nan, {"x"}, object()])
async def test_parameters_that_are_not_json_are_never_taken_for_some_that_are(start, value):
    nexus = await start()

    @nexus.workflow
    async def show(a: object = None) -> str:
        return repr(a)

    for other in (None, "aGk=", {"1": 2}, ["x"]):
        await nexus.invoke("show", {"a": other})
    try:
        answer = await nexus.invoke("show", {"a": value})
    except ValidationError:
        return
    assert not answer.cached
    assert answer.value == repr(value)


async def test_a_run_that_its_caller_follows_is_its_own(start, call):
    nexus = await start()
    first = await nexus.submit(call(user="ada")).outcome()
    run = nexus.submit(call(user="ada"))
    again = await run.outcome()
    assert (again.json, again.run_id, again.cached) == (first.json, first.run_id, True)
    await eventually(lambda: run.done)
    assert run.id != first.run_id
    assert nexus.runs.get(run.id) is run
    assert (run.owner, str(run.status)) == ("ada", "completed")
    assert [event.type for event in run.events] == ["workflow.started", "workflow.completed"]
    assert run.events[-1].result.cached


async def test_a_time_limit_that_is_none_is_refused_with_a_full_cache_too(start, call):
    nexus = await start()
    await nexus.invoke(call())
    for timeout in (0, -1, math.nan, math.inf):
        with pytest.raises(ValidationError, match="timeout must be a number"):
            await nexus.invoke(call(timeout=timeout))


async def test_each_platform_has_a_memory_of_its_own(start, call):
    one, other = await start(), await start()
    await one.invoke(call())
    assert not (await other.invoke(call())).cached


async def test_the_common_store_is_not_used_for_results(start, call):
    nexus = await start()
    await nexus.invoke(call())
    assert len(nexus.store("memory", "store")) == 0


async def test_a_workflow_that_calls_itself_does_not_wait_for_itself(start):
    nexus = await start()
    depth = []

    @nexus.workflow
    async def inner(n: int) -> int:
        depth.append(n)
        return (await nexus.invoke("outer", {"n": n})).value if len(depth) < 3 else 42

    @nexus.workflow
    async def outer(n: int) -> int:
        return (await nexus.invoke("inner", {"n": n})).value

    async with asyncio.timeout(5):
        assert (await nexus.invoke("outer", {"n": 1})).value == 42
        assert (await nexus.invoke("outer", {"n": 1})).cached


async def test_a_strangers_workflow_that_has_no_definition_is_not_cached(start, caplog):
    from nexus_core import Workflow

    class Odd(Workflow):
        uses_context = False
        ran = 0

        async def run(self, params, context):
            Odd.ran += 1
            return 1

    nexus = await start()
    odd = nexus.register("odd", Odd("odd", input_schema={"type": "object"}))
    odd.output_schema = {"type": object()}
    del odd.__dict__["output_schema"], odd.metadata
    odd.output_schema, odd.metadata = None, {"version": Unprintable()}
    assert [(await nexus.invoke("odd")).value for _ in range(2)] == [1, 1]
    assert Odd.ran == 2
    assert "odd is not cached" in caplog.text


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")


async def test_results_that_another_stage_gives_are_kept_as_they_are(start, call):
    class Stage95:
        stage = Stage.BREAKER

        async def __call__(self, invocation, call_next):
            return Result(b'"theirs"', 'odd" id')

        @hookimpl
        def nexus_register_interceptors(self, nexus):
            return [self]

    nexus = await start(Stage95())
    assert [(await nexus.invoke(call())).value for _ in range(2)] == ["theirs"] * 2


def test_the_platform_needs_nothing_of_it_while_it_is_off():
    import nexus_cache.plugin

    assert isolated_nexus(nexus_cache.plugin.CachePlugin).plugins.active() == ["CachePlugin"]
