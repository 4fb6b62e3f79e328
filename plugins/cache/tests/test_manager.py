"""What the user's own manager decides, and that it can neither block nor break nor leak anything."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time

import pytest
from nexus_cache import CacheManager, MemoryCache

from nexus_core import ConfigurationError, Context
from nexus_core.testing import eventually


class CustomCacheManager(CacheManager):
    """The guide's."""

    def get_cache_key(self, workflow_name: str, parameters: dict) -> str:
        """Generate cache key for workflow results"""
        param_hash = hashlib.md5(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
        return f"workflow:{workflow_name}:{param_hash}"

    def should_cache(self, workflow_name: str, parameters: dict) -> bool:
        """Determine if workflow result should be cached"""
        if "user_id" in parameters:
            return False
        expensive_workflows = ["data_analysis", "ml_training", "report_generation"]
        return workflow_name in expensive_workflows


async def test_the_guides_manager(start):
    nexus = await start(cache_manager=CustomCacheManager(), cache_ttl=3600)

    async def work(n: int = 0, user_id: str = "") -> int:
        return n

    async def train(context: Context) -> int:
        context.progress(1, 1)
        return 1

    for name in ("data_analysis", "cheap"):
        nexus.register(name, work)
    nexus.register("ml_training", train)

    async def second_is_cached(name, **params):
        await nexus.invoke(name, params)
        return (await nexus.invoke(name, params)).cached

    assert await second_is_cached("data_analysis", n=1)
    assert not await second_is_cached("data_analysis", n=1, user_id="ada")
    assert not await second_is_cached("cheap", n=1)
    assert await second_is_cached("ml_training"), "what the manager says holds for workflows with a context too"


async def test_metadata_holds_against_a_manager_only_to_say_no(start, add_count, call):
    class Never(CacheManager):
        def should_cache(self, workflow_name, parameters):
            return False

    class Always(CacheManager):
        def should_cache(self, workflow_name, parameters):
            return True

    for manager, metadata, expected in ((Never(), {"cache": True}, False), (Always(), {"cache": False}, False),
                                        (Never(), {}, False), (Always(), {}, True)):  # fmt: skip
        nexus = await start(cache_manager=manager)
        add_count(nexus, **metadata)
        assert [(await nexus.invoke(call())).cached for _ in range(2)] == [False, expected]


async def test_a_users_key_can_not_give_one_caller_anothers_result(start, call):
    class OneKey(CacheManager):
        def get_cache_key(self, workflow_name, parameters):
            return "the same for all"

    nexus = await start(cache_manager=OneKey())
    nexus.register("other", lambda: "other")
    people = (None, "ada", "bob")
    for expected in (False, True):
        answers = [await nexus.invoke(call(user=each)) for each in people]
        assert [each.cached for each in answers] == [expected] * 3
        assert [each.value["run"] for each in answers] == [1, 2, 3]
    assert (await nexus.invoke("other")).value == "other", "nor one workflow another's"
    assert (await nexus.invoke(call(n=9))).value == {"n": 0, "run": 1}, "but parameters are for the key to tell apart"


async def test_a_users_key_of_a_shared_workflow_is_everybodys(start, add_count, call):
    class ByYear(CacheManager):
        async def get_cache_key(self, workflow_name, parameters):
            return str(parameters["n"])

    nexus = await start(cache_manager=ByYear())
    add_count(nexus, cache="shared")
    assert [(await nexus.invoke(call(user=each, n=1))).value["run"] for each in (None, "ada")] == [1, 1]
    assert (await nexus.invoke(call(n=2))).value["run"] == 2


async def test_a_users_key_is_never_taken_for_parameters(start, call):
    class Imitates(CacheManager):
        def get_cache_key(self, workflow_name, parameters):
            return '{"n":1}'

    memory = MemoryCache()
    plain, managed = await start(cache_backend=memory), await start(cache_backend=memory, cache_manager=Imitates())
    await plain.invoke(call(n=1))
    assert not (await managed.invoke(call(n=2))).cached


@pytest.mark.parametrize(
    "wrong", [None, "", 1, b"k", RuntimeError("no"), SystemExit(), asyncio.CancelledError(), "raise StopIteration"]
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_manager_gets_wrong_is_logged_and_not_cached(start, caplog, wrong, is_async, call):
    class Wrong(CacheManager):
        def get_cache_key(self, workflow_name, parameters):
            if wrong == "raise StopIteration":
                next(iter(()))
            if isinstance(wrong, BaseException):
                raise wrong
            return wrong

    class WrongAsync(CacheManager):
        async def get_cache_key(self, workflow_name, parameters):
            return Wrong().get_cache_key(workflow_name, parameters)

    nexus = await start(cache_manager=WrongAsync() if is_async else Wrong())
    assert [(await nexus.invoke(call())).cached for _ in range(3)] == [False] * 3
    assert (
        len(
            [each for each in caplog.records if "The cache manager failed, so count is not cached" in each.getMessage()]
        )
        == 1
    )


async def test_a_manager_that_blocks_blocks_nothing_else(start, call):
    entered = threading.Event()
    leave = threading.Event()

    class Blocks(CacheManager):
        def should_cache(self, workflow_name, parameters):
            entered.set()
            leave.wait(20)
            return True

    nexus = await start(cache_manager=Blocks(), cache_timeout=0.1)
    begin = time.monotonic()
    task = asyncio.create_task(nexus.invoke(call()))
    await eventually(entered.is_set)
    assert not (await task).cached
    assert time.monotonic() - begin < 10
    leave.set()


async def test_a_manager_that_hangs_does_not_use_up_threads(start, call):
    leave = threading.Event()
    inside = []

    class Hangs(CacheManager):
        def get_cache_key(self, workflow_name, parameters):
            inside.append(1)
            leave.wait(20)

    nexus = await start(cache_manager=Hangs(), cache_timeout=0.02, max_concurrent_workflows=5)
    try:
        for _ in range(20):
            await nexus.invoke(call())
        assert len(inside) == 5
        assert len(nexus.ran) == 20
    finally:
        leave.set()


async def test_a_manager_is_asked_as_often_as_there_are_calls(start, call):
    nexus = await start(cache_manager=AlwaysInThread(), max_concurrent_workflows=2)
    assert [(await nexus.invoke(call(n=n // 2))).cached for n in range(20)] == [False, True] * 10


class AlwaysInThread(CacheManager):
    def should_cache(self, workflow_name, parameters):
        return threading.current_thread() is not threading.main_thread()


async def test_a_manager_gets_a_copy_of_the_parameters(start, call):
    class Changes(CacheManager):
        def get_cache_key(self, workflow_name, parameters):
            parameters["n"] = 99
            parameters["more"] = 1
            return "k"

        def should_cache(self, workflow_name, parameters):
            parameters.clear()
            return True

    nexus = await start(cache_manager=Changes())
    assert (await nexus.invoke(call(n=1))).value["n"] == 1


async def test_an_object_with_one_of_the_methods_is_a_manager(start, call):
    class Small:
        async def should_cache(self, workflow_name, parameters):
            return parameters["n"] > 1

    nexus = await start(cache_manager=Small())
    assert [(await nexus.invoke(call(n=n))).cached for n in (1, 1, 2, 2)] == [False, False, False, True]


async def test_the_base_class_changes_nothing(start, call):
    nexus = await start(cache_manager=CacheManager())
    assert [(await nexus.invoke(call())).cached for _ in range(2)] == [False, True]
    keys = [CacheManager().get_cache_key("w", each) for each in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1})]
    assert keys[0] == keys[1] != keys[2]
    assert CacheManager().should_cache("w", {}) is True


@pytest.mark.parametrize("wrong", [CacheManager, object(), 5, "CacheManager", {"should_cache": True}])
def test_what_is_no_manager_is_refused(make, wrong):
    with pytest.raises(ConfigurationError, match="cache_manager: must be an object with get_cache_key or should_cache"):
        make(cache_manager=wrong)
