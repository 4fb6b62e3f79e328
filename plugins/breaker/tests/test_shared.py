"""Circuits that several processes share in Redis; and what becomes of them when Redis does not answer."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time

import nexus_redis.plugin
import pytest

from nexus_core import CircuitOpen, Stage, WorkflowFailed
from nexus_core.testing import eventually, stage_of

KEY = "nexus:breaker:order"


async def settled(*shops):
    """Let what goes on beside calls come to its end."""
    for shop in shops:
        breaker = stage_of(shop.nexus, Stage.BREAKER)
        await breaker.circuit_of(shop.nexus.workflows.get("order")).tasks.settle()


async def test_failures_of_all_are_counted_together_and_all_refuse(open_shared, comes_to):
    first, second = await open_shared(), await open_shared()
    await first.fail(3)
    await second.fail(2)
    assert await second.is_open()
    await comes_to(first.is_open, True, 3)
    assert (first.ran, second.ran) <= (3 + 5, 2)


async def test_a_process_that_starts_later_learns_of_an_open_circuit(open_shared, comes_to):
    first = await open_shared()
    await first.fail(5)
    second = await open_shared()
    await comes_to(second.is_open, True, 3)
    with pytest.raises(CircuitOpen) as refused:
        await second.nexus.invoke("order")
    assert 50 < refused.value.retry_after <= 60


async def test_successes_ask_the_store_nothing(open_shared, redis_server, monkeypatch):
    monkeypatch.setattr("nexus_breaker.shared.FRESH_SECONDS", 3600)
    monkeypatch.setattr("nexus_redis.client.WATCH_SECONDS", 3600)
    shop = await open_shared()
    await shop.call()
    await settled(shop)
    assert redis_server.calls() == {"get": 1, "set": 1}  # the one look, and Redis' own plugin at the start
    redis_server.forget_calls()
    for _ in range(200):
        await shop.call()
    assert redis_server.calls() == {}


async def test_the_copy_is_renewed_twice_a_second_beside_the_calls(open_shared, redis_server):
    shop = await open_shared()
    await shop.call()
    redis_server.forget_calls()
    begin = time.monotonic()
    while time.monotonic() - begin < 1.2:
        await shop.call()
        await asyncio.sleep(0.002)
    await settled(shop)
    assert 1 <= redis_server.calls()["get"] <= 3


async def test_a_failure_is_one_round_trip_and_so_is_the_success_after_it(open_shared, redis_server, monkeypatch):
    monkeypatch.setattr("nexus_breaker.shared.FRESH_SECONDS", 3600)
    monkeypatch.setattr("nexus_redis.client.WATCH_SECONDS", 3600)
    shop = await open_shared()
    await shop.fail(2)  # what Redis is asked for the first time takes it two: it has to learn the script
    await shop.call()
    await settled(shop)
    for step, count in ((lambda: shop.fail(1), 1), (lambda: shop.fail(1), 1), (shop.call, 1), (shop.call, 0)):
        redis_server.forget_calls()
        await step()
        asked = {name: n for name, n in redis_server.calls().items() if name in ("set", "evalsha", "eval")}
        inside = 1 if "evalsha" in asked and "set" in asked else 0  # the script's own
        assert sum(asked.values()) - inside == count


async def test_a_success_anywhere_counts_from_nothing_everywhere(open_shared, redis_server):
    first, second = await open_shared(), await open_shared()
    await first.fail(4)
    await second.look()
    await second.call()
    assert redis_server.ask("GET", KEY) is None
    await first.fail(4)
    assert not await first.is_open()


async def test_a_success_of_who_does_not_know_yet_closes_nothing(open_shared, redis_server, monkeypatch):
    monkeypatch.setattr("nexus_breaker.shared.FRESH_SECONDS", 3600)
    first, second = await open_shared(), await open_shared()
    await first.fail(1)
    await second.fail(4)
    assert await second.is_open()
    assert await first.call() == "ordered"  # by its old copy
    assert await first.is_open()
    assert b'"until"' in redis_server.ask("GET", KEY)


async def test_of_the_calls_of_all_exactly_one_is_the_probe(open_shared, redis_server):
    shops = [await open_shared() for _ in range(3)]
    await shops[0].fail(5)
    for shop in shops:
        await shop.look()
        assert await shop.is_open()
        shop.gate = asyncio.Event()
    record = json.loads(redis_server.ask("GET", KEY))
    redis_server.ask("SET", KEY, json.dumps(record | {"until": time.time()}))  # as if the 60 seconds had passed
    for shop in shops:
        await shop.look()
    calls = [asyncio.create_task(shop.call()) for _ in range(20) for shop in shops]
    await eventually(lambda: sum(call.done() for call in calls) == 59)
    assert sum(shop.ran for shop in shops) == 5 + 1
    for shop in shops:
        shop.gate.set()
    answers = await asyncio.gather(*calls)
    assert answers.count(CircuitOpen) == 59
    assert answers.count("ordered") == 1


async def test_a_probe_that_succeeds_closes_it_for_all(open_shared, comes_to, redis_server):
    first, second = [await open_shared(circuit_breaker_reset_timeout=1.5) for _ in range(2)]
    await first.fail(5)
    await second.look()
    assert await second.is_open()
    await comes_to(second.call, "ordered")
    assert redis_server.ask("GET", KEY) is None
    await comes_to(first.call, "ordered")
    assert first.ran == 6


async def test_a_probe_that_is_cancelled_leaves_its_place_to_any(open_shared, comes_to):
    first, second = [await open_shared(circuit_breaker_reset_timeout=1) for _ in range(2)]
    await first.fail(5)
    probe = await first.probe()
    probe.cancel()
    await asyncio.wait([probe])
    await comes_to(second.call, "ordered")


async def test_a_probe_goes_on_for_as_long_as_it_takes(open_shared, monkeypatch):
    monkeypatch.setattr("nexus_breaker.shared.LEASE_SECONDS", 1.0)
    monkeypatch.setattr("nexus_breaker.shared.RENEW_SECONDS", 0.1)
    first, second = [await open_shared(circuit_breaker_reset_timeout=1) for _ in range(2)]
    await first.fail(5)
    probe = await first.probe()
    await second.look()
    begin = time.monotonic()
    while time.monotonic() - begin < 2.0:
        assert await second.is_open()
        assert await first.is_open()
        await asyncio.sleep(0.02)
    first.gate.set()
    assert await probe == "ordered"


DIES = """
import asyncio, sys
import nexus_breaker.plugin, nexus_breaker.shared, nexus_redis.plugin
from nexus_core import CircuitOpen, Nexus, Stage
from nexus_core.testing import stage_of

nexus_breaker.shared.LEASE_SECONDS, nexus_breaker.shared.RENEW_SECONDS = 1.0, 0.3
plugins = [nexus_breaker.plugin.BreakerPlugin, nexus_redis.plugin.RedisPlugin]
nexus = Nexus(discover=False, plugins=plugins, redis_url=sys.argv[1],
              store="redis", enable_circuit_breaker=True, circuit_breaker_reset_timeout=0.3)

@nexus.workflow
async def order(n: int = 0) -> str:
    print("probe", flush=True)
    await asyncio.sleep(3600)

async def main():
    async with nexus:
        breaker = stage_of(nexus, Stage.BREAKER)
        workflow = nexus.workflows.get("order")
        await breaker.circuit_of(workflow).refresh()
        while True:
            try:
                await nexus.invoke("order")
            except CircuitOpen:
                await asyncio.sleep(0.02)

asyncio.run(main())
"""


async def test_a_probe_whose_process_is_killed_leaves_its_place_to_any(open_shared, redis_server, comes_to):
    shop = await open_shared(circuit_breaker_reset_timeout=0.3)
    await shop.fail(5)
    other = subprocess.Popen([sys.executable, "-c", DIES, redis_server.url], stdout=subprocess.PIPE)
    try:
        assert await asyncio.to_thread(other.stdout.readline) == b"probe\n"
        await settled(shop)
        assert await shop.is_open()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    await comes_to(shop.call, "ordered")


async def test_without_the_store_each_process_has_its_own_circuits_and_says_so_once(
    open_shop, redis_server, redis_proxy, comes_to, caplog
):
    caplog.set_level(logging.INFO, "nexus_breaker")
    options = {
        "redis_url": redis_proxy.url,
        "store": "redis",
        "event_backend": "memory",
        "circuit_breaker_reset_timeout": 1,
    }
    first, second = [await open_shop(nexus_redis.plugin.RedisPlugin, **options) for _ in range(2)]
    await first.fail(4)
    redis_proxy.mode = "blackhole"
    begin = time.monotonic()
    assert await first.fail(1) == [WorkflowFailed]
    assert time.monotonic() - begin < 5
    assert await first.is_open()
    assert await second.call() == "ordered"
    await comes_to(first.call, "ordered")
    await first.fail(5)
    assert await first.is_open()
    redis_proxy.mode = "pass"
    await comes_to(first.call, "ordered")
    await eventually(lambda: "is available again: processes share their circuits" in caplog.text)
    assert caplog.text.count("each process uses its own circuits") <= 2  # once in each
    await first.fail(5)
    await comes_to(second.is_open, True)


async def test_what_one_process_found_while_the_store_was_away_holds_when_it_is_back(
    open_shop, redis_server, redis_proxy
):
    shop = await open_shop(
        nexus_redis.plugin.RedisPlugin, redis_url=redis_proxy.url, store="redis", event_backend="memory"
    )
    await shop.call()
    redis_proxy.mode = "refuse"
    await shop.fail(5)
    assert await shop.is_open()
    redis_proxy.mode = "pass"
    store = shop.nexus.store("redis", "store")
    await eventually(lambda: store.reason is None)
    begin = time.monotonic()
    while time.monotonic() - begin < 1.0:
        assert await shop.is_open()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "foreign", ["", "x", "[]", '{"until": "soon"}', '{"failures": -3}', b"\x80\x04N.", '{"until": 1e999}'], ids=repr
)
async def test_what_others_wrote_is_no_circuit(open_shared, redis_server, foreign):
    redis_server.ask("SET", KEY, foreign)
    shop = await open_shared()
    await shop.call()
    await settled(shop)
    assert await shop.call() == "ordered"
    await shop.fail(5)
    assert await shop.is_open()


async def test_times_of_a_clock_that_is_wrong_are_not_believed(open_shared, redis_server, comes_to, monkeypatch):
    monkeypatch.setattr("nexus_breaker.records.LEASE_SECONDS", 1.0)
    hours = time.time() + 7200
    redis_server.ask("SET", KEY, f'{{"failures": 5, "until": {hours}, "probe": "x", "lease": {hours}}}')
    shop = await open_shared(circuit_breaker_reset_timeout=0.3)
    await shop.call()
    await settled(shop)
    assert await shop.is_open()
    await comes_to(shop.call, "ordered", 15)


async def test_every_record_expires(open_shared, redis_server):
    shop = await open_shared()
    await shop.fail(1)
    assert 3500 < redis_server.ask("TTL", KEY) <= 3600
    await shop.fail(4)
    assert 3600 < redis_server.ask("TTL", KEY) <= 3660
