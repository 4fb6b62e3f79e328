"""Results that processes share: two platforms, each with a client of its own, on one real Redis."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
from nexus_cache import shared_result_store
from nexus_cache.entry import ResultLease, encode

from nexus_core import Invocation, Stage, WorkflowFailed, WorkflowTimeout
from nexus_core.testing import eventually, stage_of

# Each platform of a test counts its own runs in `nexus.ran`.


def keys(server):
    return sorted(server.ask("KEYS", "nexus:cache:*"))


def flights(nexus):
    stage = stage_of(nexus, Stage.CACHE)
    return stage.in_flight


@pytest.fixture(name="two")
async def two_fixture(start_on_redis, redis_server):
    return await start_on_redis(redis_server.url), await start_on_redis(redis_server.url)


async def test_what_one_has_worked_out_the_other_has_too(two, call):
    one, other = two
    first = await one.invoke(call(user="ada", n=1))
    again = await other.invoke(call(user="ada", n=1))
    assert (again.json, again.run_id, again.cached) == (first.json, first.run_id, True)
    assert not (await other.invoke(call(user="bob", n=1))).cached
    assert (one.ran, other.ran) == ([1], [1])


async def test_equal_calls_to_both_run_once(two, call):
    one, other = two
    calls = [nexus.invoke(call(n=n, seconds=0.3)) for n in range(3) for _ in range(20) for nexus in two]
    answers = await asyncio.gather(*calls)
    assert sorted(one.ran + other.ran) == [0, 1, 2]
    assert sum(each.cached for each in answers) == len(answers) - 3
    for n in range(3):
        assert len({each.json for each in answers if each.value["n"] == n}) == 1


async def test_a_hit_costs_one_round_trip_and_a_miss_two(start_on_redis, redis_server, redis_proxy, call):
    nexus = await start_on_redis(redis_proxy.url)
    await nexus.invoke(call(n=1))
    redis_server.forget_calls()
    await nexus.invoke(call(n=2))
    assert redis_server.calls() == {"set": 2}
    redis_server.forget_calls()
    for _ in range(10):
        assert (await nexus.invoke(call(n=2))).cached
    assert redis_server.calls() == {"set": 10}


async def test_equal_hits_at_the_same_time_share_one_round_trip(start_on_redis, redis_server, call):
    nexus = await start_on_redis(redis_server.url)
    await nexus.invoke(call())
    redis_server.forget_calls()
    assert all(each.cached for each in await asyncio.gather(*(nexus.invoke(call()) for _ in range(50))))
    assert redis_server.calls() == {"set": 1}


async def test_errors_are_not_kept_and_leave_no_claim(two, redis_server, call):
    one, other = two
    for nexus in (one, other, one):
        with pytest.raises(WorkflowFailed):
            await nexus.invoke(call(fail=True))
        assert keys(redis_server) == []
    assert (len(one.ran), len(other.ran)) == (2, 1)


async def test_when_one_fails_the_other_runs(two, call):
    one, other = two
    tasks = [asyncio.create_task(nexus.invoke(call(fail=True, seconds=0.1))) for nexus in (one, one, other, other)]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in errors] == [WorkflowFailed] * 4
    assert (len(one.ran), len(other.ran)) == (1, 1)


async def test_when_one_gives_up_the_other_takes_over(two, call):
    one, other = two
    first = asyncio.create_task(one.invoke(call(seconds=0.5)))
    await eventually(lambda: one.ran)
    second = asyncio.create_task(other.invoke(call(seconds=0.5)))
    await eventually(lambda: flights(other))
    begin = time.monotonic()
    first.cancel()
    assert (await second).cached is False
    assert time.monotonic() - begin < 2
    assert (len(one.ran), len(other.ran)) == (1, 1)


async def test_work_that_takes_longer_than_a_claim_lives_is_still_done_once(two, call, monkeypatch, redis_server):
    monkeypatch.setattr(shared_result_store, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(shared_result_store, "RENEW_SECONDS", 0.1)
    one, other = two
    first = asyncio.create_task(one.invoke(call(seconds=3)))
    await eventually(lambda: one.ran)
    second = asyncio.create_task(other.invoke(call(seconds=3)))
    assert ((await first).cached, (await second).cached) == (False, True)
    assert (len(one.ran), len(other.ran)) == (1, 0)


async def test_claims_whose_owner_has_died_delay_others_for_a_few_seconds(two, redis_server, call):
    one, other = two
    await asyncio.gather(one.invoke(call(n=0)), one.invoke(call(n=1)))
    written, planted = keys(redis_server)
    redis_server.ask("SET", written, encode(ResultLease("dead")), "PX", 3000)  # as this program does it
    redis_server.ask("SET", planted, encode(ResultLease("dead")))  # as somebody might who means harm: for ever
    begin = time.monotonic()
    answers = await asyncio.gather(other.invoke(call(n=0)), other.invoke(call(n=1)))
    assert [each.cached for each in answers] == [False, False]
    assert 1 < time.monotonic() - begin < 5
    assert (await one.invoke(call(n=0))).cached
    assert (await one.invoke(call(n=1))).cached


async def test_who_waits_for_another_process_does_so_no_longer_than_it_said(two, redis_server, call):
    one, other = two
    first = asyncio.create_task(one.invoke(call(seconds=3)))
    await eventually(lambda: one.ran)
    begin = time.monotonic()
    with pytest.raises(WorkflowTimeout, match=r"within 0\.2 seconds"):
        await other.invoke(call(seconds=3, timeout=0.2))
    assert time.monotonic() - begin < 2.5
    assert (await first).cached is False


async def test_a_run_that_waits_for_another_process_can_be_found_and_cancelled(two, call):
    one, other = two
    first = asyncio.create_task(one.invoke(call(seconds=0.6)))
    await eventually(lambda: one.ran)
    waiting, given_up = other.submit(call(seconds=0.6)), other.submit(call(seconds=0.6))
    async with asyncio.timeout(0.5):
        await asyncio.gather(waiting.started_or_rejected(), given_up.started_or_rejected())
    given_up.cancel()
    await eventually(lambda: given_up.done)
    assert (await waiting.outcome()).json == (await first).json
    assert other.ran == []


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


async def test_planted_pickles_are_not_executed(two, redis_server, call, tmp_path):
    one, other = two
    first = await one.invoke(call())
    (key,) = keys(redis_server)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        redis_server.ask("SET", key, pickle.dumps(Planted(tmp_path / "executed"), protocol))
        answer = await other.invoke(call())
        assert (answer.cached, answer.value["n"]) == (False, first.value["n"])
        assert (await one.invoke(call())).json == answer.json
    assert not (tmp_path / "executed").exists()


def damaged(entry: bytes):
    """What an entry may have become."""
    yield b""
    yield entry[:-1]
    yield entry[: len(entry) // 2]
    yield entry.replace(b'"run":1', b'"run":7')
    yield entry.replace(b"result.1", b"result.2")
    yield entry.replace(b'"run_id":"', b'"run_id":"\\"')
    yield entry + b"x"
    yield entry.replace(b'"n":0', b'"n":\xff')
    yield b'{"nexus_cache":"result.1","result":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield b"null"
    yield b"{}"
    yield b'{"nexus_cache":"result.1"}'
    yield b'{"nexus_cache":"lease.1"}'
    yield b'{"result":{"n":0},"run_id":"x"}'
    yield bytes(range(256))


async def test_what_somebody_else_wrote_is_a_miss_is_told_once_and_overwritten(two, redis_server, call, caplog):
    one, other = two
    await one.invoke(call())
    (key,) = keys(redis_server)
    entry = redis_server.ask("GET", key)
    for number, text in enumerate(damaged(entry), start=1):
        assert text != entry
        redis_server.ask("SET", key, text)
        answer = await other.invoke(call())
        assert (answer.cached, answer.value["run"]) == (False, number), text[:100]
        assert (await other.invoke(call())).cached
    told = [each for each in caplog.records if "was not written by this program" in each.getMessage()]
    assert len(told) == 1


async def test_an_entry_under_anothers_key_is_a_miss(two, redis_server, call):
    one, other = two
    await one.invoke(call(user="ada"))
    (adas,) = keys(redis_server)
    await one.invoke(call(user="bob"))
    (bobs,) = [key for key in keys(redis_server) if key != adas]
    redis_server.ask("RENAME", adas, bobs)
    assert not (await other.invoke(call(user="bob"))).cached


async def test_what_is_kept_is_json_and_expires(start_on_redis, redis_server, call):
    nexus = await start_on_redis(redis_server.url, cache_ttl=20)
    result = await nexus.invoke(call())
    (key,) = keys(redis_server)
    entry = json.loads(redis_server.ask("GET", key))
    assert (entry["nexus_cache"], entry["result"], entry["run_id"]) == ("result.1", result.value, result.run_id)
    assert abs(entry["created"] - time.time()) < 20
    assert 10_000 < redis_server.ask("PTTL", key) <= 20_000


async def test_an_entry_that_is_older_than_this_platform_keeps_them_is_a_miss(start_on_redis, redis_server, call):
    long = await start_on_redis(redis_server.url, cache_ttl=60)
    short = await start_on_redis(redis_server.url, cache_ttl=30)
    await long.invoke(call())
    assert (await short.invoke(call())).cached
    (key,) = keys(redis_server)
    entry = json.loads(redis_server.ask("GET", key))
    older = entry | {"created": time.time() - 30}
    redis_server.ask("SET", key, json.dumps(older, separators=(",", ":")))
    assert (await long.invoke(call())).cached
    assert not (await short.invoke(call())).cached


async def test_other_code_or_another_version_under_the_same_name_gets_no_old_results(two, add_count, call):
    one, other = two
    await one.invoke(call())
    add_count(other, version="2")
    assert not (await other.invoke(call())).cached

    async def count(n: int = 0, seconds: float = 0.0, fail: bool = False) -> dict:
        return {"n": n, "run": "other code"}

    other.register("count", count, replace=True)
    assert (await other.invoke(call())).value["run"] == "other code"


async def test_two_keys_spaces_do_not_meet(start_on_redis, redis_server, call):
    one = await start_on_redis(redis_server.url)
    other = await start_on_redis(redis_server.url, redis_key_prefix="other:")
    await one.invoke(call())
    assert not (await other.invoke(call())).cached


async def timed(nexus, invocation):
    begin = time.monotonic()
    result = await nexus.invoke(invocation)
    return time.monotonic() - begin, result


def told(caplog):
    return [each.getMessage() for each in caplog.records if each.name.startswith("nexus_cache")]


async def test_while_redis_is_gone_calls_run_and_the_log_says_so_once(start_on_redis, redis_server, call, caplog):
    caplog.set_level(logging.INFO)
    nexus = await start_on_redis(redis_server.url)
    await nexus.invoke(call())
    redis_server.kill()
    for _ in range(10):
        seconds, result = await timed(nexus, call())
        assert not result.cached
        assert seconds < 3
    assert len(nexus.ran) == 11
    assert len([each for each in told(caplog) if "is unavailable" in each]) == 1
    redis_server.start()
    begin = time.monotonic()
    while not (await nexus.invoke(call())).cached:
        assert time.monotonic() - begin < 5
        await asyncio.sleep(0.02)
    assert told(caplog)[-1] == "The cache is available again"


@pytest.mark.parametrize("way", ["paused", "blackhole"])
async def test_a_redis_that_does_not_answer_costs_little_and_once(
    start_on_redis, redis_server, redis_proxy, call, caplog, way
):
    nexus = await start_on_redis(redis_proxy.url, redis_timeout=1)
    await nexus.invoke(call())
    if way == "paused":
        redis_server.pause()
    else:
        redis_proxy.mode = "blackhole"
    seconds = [(await timed(nexus, call(n=n)))[0] for n in range(10)]
    assert sum(seconds) < 10 * 1, "only the first one waits"
    assert len([each for each in told(caplog) if "is unavailable" in each]) == 1
    if way == "paused":
        redis_server.resume()
    else:
        redis_proxy.mode = "pass"
    await asyncio.sleep(0)
    begin = time.monotonic()
    while not (await nexus.invoke(call())).cached:
        assert time.monotonic() - begin < 5
        await asyncio.sleep(0.02)


async def test_a_redis_that_goes_while_the_work_is_done_costs_nobody_the_answer(
    start_on_redis, redis_server, redis_proxy, call
):
    nexus = await start_on_redis(redis_proxy.url, redis_timeout=0.3)
    tasks = [asyncio.create_task(nexus.invoke(call(seconds=0.3))) for _ in range(5)]
    await eventually(lambda: nexus.ran)
    redis_proxy.mode = "blackhole"
    begin = time.monotonic()
    answers = await asyncio.gather(*tasks)
    assert time.monotonic() - begin < 10
    assert {each.value["run"] for each in answers} == {1}


async def test_redis_goes_while_others_wait_for_the_result(two, redis_server, call):
    one, other = two
    first = asyncio.create_task(one.invoke(call(seconds=0.5)))
    await eventually(lambda: one.ran)
    second = asyncio.create_task(other.invoke(call(seconds=0.5)))
    await eventually(lambda: flights(other))
    redis_server.kill()
    assert [(await first).cached, (await second).cached] == [False, False]


async def test_redis_comes_and_goes_under_load_and_every_answer_is_right(two, redis_server, redis_proxy, call):
    ended = asyncio.Event()
    answers, errors = [], []

    async def caller(nexus, user):
        number = 0
        while not ended.is_set():
            number = (number + 1) % 7
            try:
                result = await nexus.invoke(call(user=user, n=number))
                answers.append((user, number, result.value["n"], result.cached))
            except Exception as exc:
                errors.append(exc)
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(caller(nexus, user)) for nexus in two for user in ("ada", "bob", None)]
    for disturb, mend in ((redis_server.pause, redis_server.resume), (redis_server.kill, redis_server.start)) * 2:
        await asyncio.sleep(0.2)
        disturb()
        await asyncio.sleep(0.3)
        mend()
    end = time.monotonic() + 5
    while not (answers and answers[-1][-1]):  # it is used again
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    ended.set()
    await asyncio.gather(*tasks)
    assert errors == []
    assert all(asked == told for _, asked, told, _ in answers)
    assert {cached for *_, cached in answers} == {True, False}


PROCESS = """
import asyncio, os, sys
import nexus_cache.plugin, nexus_redis.plugin
from nexus_core import Nexus

plugins = [nexus_cache.plugin.CachePlugin, nexus_redis.plugin.RedisPlugin]
nexus = Nexus(discover=False, plugins=plugins, enable_caching=True,
              cache_backend="redis", redis_url=sys.argv[1])

@nexus.workflow
async def work(n: int) -> list[int]:
    print("runs", flush=True)
    await asyncio.sleep(float(sys.argv[2]))
    return [n, os.getpid()]

async def main():
    async with nexus:
        answers = await asyncio.gather(*(nexus.invoke("work", {"n": 1}) for _ in range(5)))
        print(*{each.json for each in answers}, flush=True)

asyncio.run(main())
"""


def process(server, seconds):
    command = [sys.executable, "-c", PROCESS, server.url, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_run_it_once(redis_server):
    pytest.importorskip("nexus_redis")
    begun = [process(redis_server, 0.5) for _ in range(3)]
    printed = [each.communicate(timeout=40) for each in begun]
    assert [each.returncode for each in begun] == [0, 0, 0], printed
    lines = "".join(out for out, _ in printed).splitlines()
    assert lines.count("runs") == 1, printed
    assert len(set(lines)) == 2


def test_when_a_process_is_killed_another_one_takes_over(redis_server):
    pytest.importorskip("nexus_redis")
    first = process(redis_server, 60)
    try:
        assert first.stdout.readline() == "runs\n"
        second = process(redis_server, 0.1)
        end = time.monotonic() + 20
        while redis_server.calls().get("get", 0) < 2:  # it asks whether the result is there
            assert time.monotonic() < end
            time.sleep(0.02)
        begin = time.monotonic()
        first.send_signal(signal.SIGKILL)
        out, err = second.communicate(timeout=30)
        assert out.startswith("runs\n"), err
        assert time.monotonic() - begin < 20
    finally:
        first.kill()
        first.communicate()


async def test_the_option_store_chooses_where_results_are_kept(start_on_redis, redis_server, call):
    nexus = await start_on_redis(redis_server.url, cache_backend=None, store="redis")
    await nexus.invoke(call())
    assert len(keys(redis_server)) == 1
    own = await start_on_redis(redis_server.url, cache_backend="memory", store="redis")
    assert not (await own.invoke(call())).cached


async def test_a_large_result_is_not_sent_and_leaves_no_claim(start_on_redis, redis_server):
    nexus = await start_on_redis(redis_server.url, cache_max_entry_bytes=1000)
    nexus.register("large", lambda: "x" * 1000)
    assert [(await nexus.invoke(Invocation("large", {}))).cached for _ in range(2)] == [False, False]
    assert keys(redis_server) == []
