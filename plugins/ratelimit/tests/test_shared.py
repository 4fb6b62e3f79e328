"""Budgets that several processes share in Redis; and what becomes of them when Redis does not answer."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from itertools import count

import pytest
from nexus_ratelimit.counters import LimitDecision
from nexus_ratelimit.limits import Limit
from nexus_ratelimit.shared import ExhaustedBudgets

from nexus_core import AuthenticationError, ConfigurationError, Nexus, RateLimited, hookimpl
from nexus_core.state.memory_store import MemoryStore
from nexus_core.testing import eventually

STRATEGIES = ["sliding_window", "moving_window", "fixed_window"]
AWAY = "The store redis is unavailable: each process limits calls separately"
BACK = "The store redis is available again: processes share their limits"


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_processes_share_a_callers_budget(start_shared, strategy):
    first, second = [await start_shared(rate_limit_strategy=strategy) for _ in range(2)]
    told = [(await platform.call())[0].rate_limit.remaining for platform in (first, second, first)]
    assert told == [2, 1, 0]
    for platform in (first, second):
        invocation, error = await platform.call()
        assert isinstance(error, RateLimited)
        assert invocation.rate_limit.remaining == 0
        assert error.details == {"limit": 3, "window": 60.0, "remaining": 0, "reset": error.retry_after}
        assert 0 < error.retry_after <= 120
    assert first.ran + second.ran == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_of_a_hundred_calls_at_once_exactly_the_limit_passes(start_shared, strategy):
    options = {"rate_limit_per_minute": 10, "rate_limit_strategy": strategy}
    platforms = [await start_shared(**options) for _ in range(2)]
    passed = await asyncio.gather(*(platforms[n % 2].passes() for n in range(100)))
    assert sum(passed) == 10


PROCESS = """
import asyncio, sys
import nexus_ratelimit.plugin, nexus_redis.plugin
from nexus_core import Invocation, Nexus, RateLimited

plugins = [nexus_ratelimit.plugin.RateLimitPlugin, nexus_redis.plugin.RedisPlugin]
nexus = Nexus(discover=False, plugins=plugins, redis_url=sys.argv[1],
              redis_timeout=10, store="redis",
              enable_rate_limiting=True, rate_limit_per_minute=10, rate_limit_strategy=sys.argv[2])

@nexus.workflow
async def order() -> str:
    return "ordered"

async def passes():
    try:
        await nexus.invoke(Invocation("order", {}, "api", client_address="203.0.113.5"))
    except RateLimited:
        return 0
    return 1

async def main():
    async with nexus:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(sum(await asyncio.gather(*(passes() for _ in range(100)))), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_of_the_calls_of_two_processes_exactly_the_limit_passes(redis_server, strategy):
    command = [sys.executable, "-c", PROCESS, redis_server.url, strategy]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for process in both:
            assert process.stdout.readline() == "ready\n"
        for process in both:
            process.stdin.write("go\n")
            process.stdin.flush()
        passed = [int(process.stdout.readline()) for process in both]
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert sum(passed) == 10


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_call_is_one_round_trip_and_a_refused_one_none(start_shared, redis_proxy, strategy, monkeypatch):
    monkeypatch.setattr("nexus_redis.client.WATCH_SECONDS", 3600)
    platform = await start_shared(url=redis_proxy.url, rate_limit_per_minute=50, rate_limit_strategy=strategy)
    await platform.call(address="192.0.2.1")  # Redis learns the script: once, that takes two
    before = redis_proxy.requests
    assert await platform.count(50) == 50
    assert redis_proxy.requests - before == 50
    before = redis_proxy.requests
    assert await platform.count(50) == 0
    assert redis_proxy.requests == before


async def test_a_limit_of_the_workflows_own_is_another_round_trip(start_shared, redis_proxy, monkeypatch):
    monkeypatch.setattr("nexus_redis.client.WATCH_SECONDS", 3600)
    platform = await start_shared(url=redis_proxy.url, rate_limit_per_minute=20)
    platform.register("mail", rate_limit=5)
    await platform.call(address="192.0.2.1")
    before = redis_proxy.requests
    assert await platform.count(10, "mail") == 5
    assert redis_proxy.requests - before == 10
    assert await platform.count(30) == 15  # what the workflow's limit refused was not taken from the other


async def test_a_workflows_limit_holds_for_all_processes(start_shared):
    platforms = [await start_shared(rate_limit_per_minute=100) for _ in range(2)]
    for platform in platforms:
        platform.register("mail", rate_limit="4/hour")
    assert [await platforms[n % 2].passes("mail") for n in range(6)] == [True] * 4 + [False] * 2


async def test_there_are_more_calls_when_it_says_so(start_shared):
    platform = await start_shared(rate_limit_per_minute=100)
    platform.register("fast", rate_limit={"limit": 2, "window": 1})
    while (error := (await platform.call("fast"))[1]) is None:
        pass
    begin = time.monotonic()
    while (await platform.call("fast"))[1] is not None:
        assert time.monotonic() - begin < error.retry_after + 5
        await asyncio.sleep(0.005)
    assert time.monotonic() - begin > error.retry_after - 0.05


async def test_wrong_credentials_count_for_all_processes_and_good_ones_cost_nothing(
    start_shared, redis_proxy, door, monkeypatch
):
    monkeypatch.setattr("nexus_redis.client.WATCH_SECONDS", 3600)
    options = {"auth_failures_per_minute": 4, "rate_limit_per_minute": 100, "url": redis_proxy.url}
    first, second = await start_shared(door, **options), await start_shared(door, **options)

    async def attempt(platform, word):
        return type((await platform.call(credentials={"authorization": word}))[1])

    assert [await attempt((first, second)[n % 2], f"guess {n}") for n in range(4)] == [AuthenticationError] * 4
    assert [await attempt(first, "guess"), await attempt(second, "guess")] == [RateLimited] * 2
    before, asked = redis_proxy.requests, door.asked
    assert [await attempt(each, "good one") for each in (first, second)] == [RateLimited] * 2
    assert (redis_proxy.requests, door.asked) == (before, asked)
    good, _ = await first.call(credentials={"authorization": "good one"}, address="192.0.2.1")
    assert good.rate_limit.remaining == 99
    assert redis_proxy.requests - before == 1


async def test_a_store_that_does_not_count_is_refused():
    class Plain(MemoryStore):
        name = "plain"

    class Plugin:
        @hookimpl
        def nexus_register_stores(self, nexus):
            return [Plain()]

    import nexus_ratelimit.plugin

    for options, complaint in (
        ({"rate_limit_backend": "plain"}, r"rate_limit_backend: the store 'plain' can't count calls\."),
        ({"store": "plain"}, r"store: the store 'plain' can't count calls: set rate_limit_backend to memory"),
        ({"rate_limit_backend": "redis"}, r"rate_limit_backend: there is no store 'redis'"),
    ):
        plugins = [nexus_ratelimit.plugin.RateLimitPlugin, Plugin()]
        with pytest.raises(ConfigurationError, match=complaint):
            async with Nexus(discover=False, plugins=plugins, enable_rate_limiting=True, **options):
                pass
    plugins = [nexus_ratelimit.plugin.RateLimitPlugin, Plugin()]
    async with Nexus(
        discover=False, plugins=plugins, enable_rate_limiting=True, store="plain", rate_limit_backend="memory"
    ):
        pass


# Redis slow, gone and back


@pytest.mark.parametrize("mode", ["blackhole", "refuse", "cut"])
async def test_without_redis_each_process_limits_for_itself_and_with_it_all_together_again(
    start_shared, redis_proxy, caplog, mode
):
    caplog.set_level(logging.INFO, "nexus_ratelimit")
    platform = await start_shared(url=redis_proxy.url, redis_timeout=1)
    other = await start_shared()
    assert await platform.count(2) == 2
    redis_proxy.mode = mode
    begin = time.monotonic()
    assert await platform.passes()
    assert time.monotonic() - begin < 8
    begin = time.monotonic()
    assert await platform.count(10) == 2
    assert time.monotonic() - begin < 3, "not one time limit for each call"
    assert await other.count(2) == (0 if mode == "cut" else 1)  # that call was counted, and the answer lost
    redis_proxy.mode = "pass"
    store = platform.nexus.store("redis", "store")
    await eventually(lambda: store.reason is None)
    begin, callers = time.monotonic(), count()
    while BACK not in caplog.text:
        await platform.call(user=f"{next(callers)}")
        assert time.monotonic() - begin < 5
        await asyncio.sleep(0.02)
    assert not await platform.passes()
    assert caplog.text.count(AWAY) == caplog.text.count(BACK) == 1


async def test_a_blackhole_delays_many_calls_once_and_then_none(start_shared, redis_proxy):
    platform = await start_shared(url=redis_proxy.url, redis_timeout=1, rate_limit_per_minute=1000)
    platform.register("mail", rate_limit=1000)
    await platform.call("mail")
    redis_proxy.mode = "blackhole"
    begin = time.monotonic()
    assert all(await asyncio.gather(*(platform.passes("mail", address=f"192.0.2.{n}") for n in range(50))))
    assert time.monotonic() - begin < 8
    begin = time.monotonic()
    assert all([await platform.passes("mail", address=f"192.0.2.{n}") for n in range(50)])
    assert time.monotonic() - begin < 5, "not one time limit for each call"


async def test_redis_may_be_away_at_the_start(start_shared, redis_proxy, caplog):
    caplog.set_level(logging.INFO, "nexus_ratelimit")
    redis_proxy.mode = "refuse"
    platform = await start_shared(url=redis_proxy.url, redis_timeout=0.3)
    assert await platform.count(5) == 3
    assert caplog.text.count(AWAY) == 1
    redis_proxy.mode = "pass"
    store = platform.nexus.store("redis", "store")
    await eventually(lambda: store.reason is None)
    assert await platform.count(5) == 3


async def test_redis_may_be_killed_and_come_back_under_load(start_shared, redis_server):
    platform = await start_shared(rate_limit_per_minute=1_000_000, redis_timeout=1)
    stop = asyncio.Event()
    calls, slowest = 0, 0.0

    async def load(n):
        nonlocal calls, slowest
        while not stop.is_set():
            begin = time.monotonic()
            assert await platform.passes(address=f"192.0.2.{n}")
            calls, slowest = calls + 1, max(slowest, time.monotonic() - begin)
            await asyncio.sleep(0.002)

    workers = [asyncio.create_task(load(n)) for n in range(5)]
    store = platform.nexus.store("redis", "store")
    await eventually(lambda: calls > 50)
    redis_server.kill()
    await eventually(lambda: store.reason is not None)
    await eventually(lambda seen=calls: calls > seen + 50)
    redis_server.start()
    begin = time.monotonic()
    await eventually(lambda: store.reason is None)
    assert time.monotonic() - begin < 8
    redis_server.forget_calls()
    await eventually(lambda: redis_server.calls().get("evalsha", 0) > 50)
    stop.set()
    await asyncio.gather(*workers)
    assert slowest < 6


async def test_who_is_known_to_have_none_left_gets_none_from_an_outage(start_shared, redis_proxy):
    platform = await start_shared(url=redis_proxy.url, redis_timeout=2)
    assert await platform.count(5) == 3
    redis_proxy.mode = "refuse"
    assert await platform.count(5) == 0


class Broken:
    """A store of somebody's that counts, and does not do it well."""

    name = "broken"

    def __init__(self, answer):
        self.answer = answer

    @hookimpl
    def nexus_register_stores(self, nexus):
        store = MemoryStore()
        store.name, store.hit = self.name, self._hit
        return [store]

    async def _hit(self, key, limit, window, strategy):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer", [RuntimeError("x"), None, (True, 1), (True, 1, float("nan")), (True, 1, float("inf")), (True, "1", 1.0)],
    ids=repr,
)  # fmt: skip
async def test_a_store_that_fails_in_other_ways_is_away_too(start, answer, caplog):
    platform = await start(Broken(answer), store="broken")
    assert await platform.count(10) == 3
    assert caplog.text.count("The store broken is unavailable") == 1


async def test_what_others_wrote_under_a_budgets_key_is_told_once(start_shared, redis_server, caplog):
    caplog.set_level(logging.INFO, "nexus_ratelimit")
    redis_server.ask("SET", "nexus:moving_window:ratelimit:address 203.0.113.5", "x")
    platform = await start_shared(rate_limit_strategy="moving_window")
    for n in range(20):
        await platform.call()
        assert await platform.passes(address=f"192.0.2.{n}")
    assert not await platform.passes()
    assert caplog.text.count(AWAY) == 1
    assert BACK not in caplog.text


async def test_every_key_expires(start_shared, redis_server):
    for strategy in STRATEGIES:
        platform = await start_shared(rate_limit_strategy=strategy)
        await platform.call(user="ann@example.com")
    keys = [key for key in redis_server.ask("KEYS", "*") if b"ratelimit" in key]
    assert len(keys) == 3
    assert all(0 < redis_server.ask("PTTL", key) <= 120_000 for key in keys)
    assert b"nexus:fixed_window:ratelimit:user ann@example.com" in keys


def test_what_is_spent_is_known_until_its_time_has_come_and_is_news_once():
    now = [100.0]
    spent = ExhaustedBudgets(3, lambda: now[0])
    limit = Limit(5, 60.0, "x")

    def note(key, left=0, reset=2.0):
        return spent.note(LimitDecision(True, (key, limit), left, reset))

    assert note("a", left=1) is False
    assert spent.refusal(("a", limit)) is None
    assert [note("a"), note("a")] == [True, False]
    now[0] += 1.5
    assert spent.refusal(("a", limit)) == LimitDecision(False, ("a", limit), 0, 0.5)
    now[0] += 0.5
    assert spent.refusal(("a", limit)) is None
    assert note("a") is False  # it goes on
    now[0] += 10
    assert note("b") is True
    assert note("a") is True  # it has come back
    for key in "cdefgh":
        note(key)
    assert len(spent) == 3
    assert spent.refusal(("h", limit)) is not None
    assert spent.refusal(("a", limit)) is None
