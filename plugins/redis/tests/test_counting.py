"""Counting calls: the scripts against simple models, at times that the test chooses; and with many at once."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nexus_redis.scripts import HITS

STRATEGIES = ["fixed_window", "moving_window", "sliding_window"]
SECOND = 1_000_000


def at_times(name):
    """The script, with the time as arguments in place of the server's."""
    text = HITS[name].text
    changed = text.replace("redis.call('TIME')", "{ARGV[3], ARGV[4]}")
    assert changed != text
    return changed


class Moving:
    """The times of the calls of the last window."""

    def __init__(self):
        self.times = []

    def hit(self, now, limit, window):
        self.times = [each for each in self.times if each > now - window]
        allowed = len(self.times) < limit
        if allowed:
            self.times.append(now)
        reset = (self.times[0] + window - now) if self.times else window
        return int(allowed), max(0, limit - len(self.times)), reset


class Sliding:
    """Counts of calls by the number of their window."""

    def __init__(self):
        self.counts = {}

    def _weight(self, now, window):
        index = now // window
        spent = (now - index * window) / window
        return self.counts.get(index - 1, 0) * (1 - spent) + self.counts.get(index, 0)

    def hit(self, now, limit, window):
        allowed = self._weight(now, window) + 1 <= limit
        if allowed:
            index = now // window
            self.counts[index] = self.counts.get(index, 0) + 1
        return int(allowed), max(0, math.floor(limit - self._weight(now, window))), None

    def left(self, now, limit, window):
        return math.floor(limit - self._weight(now, window))


# Hours: the key's own expiry follows the server's clock, which hardly moves meanwhile, so that it never comes first.
HOUR = 3600 * SECOND
calls = st.lists(st.integers(0, 3 * HOUR), min_size=1, max_size=40)
windows = st.sampled_from([HOUR, 2 * HOUR, HOUR + 1, 2 * HOUR + 500_000])
bounded = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def run(server, name, now, limit, window):
    command = ("EVAL", at_times(name), 1, "k", limit, window, now // SECOND, now % SECOND)
    return server.ask(*command)


@bounded
@given(pauses=calls, limit=st.integers(1, 5), window=windows)
def test_the_moving_window_is_the_model(redis_server, pauses, limit, window):
    redis_server.ask("DEL", "k")
    model, now = Moving(), 1_700_000_000 * SECOND
    for pause in pauses:
        now += pause
        assert tuple(run(redis_server, "moving_window", now, limit, window)) == model.hit(now, limit, window)


@bounded
@given(pauses=calls, limit=st.integers(1, 5), window=windows)
def test_the_sliding_window_is_the_model(redis_server, pauses, limit, window):
    redis_server.ask("DEL", "k")
    model, now = Sliding(), 1_700_000_000 * SECOND + 123_457
    for pause in pauses:
        now += pause
        allowed, left, reset = run(redis_server, "sliding_window", now, limit, window)
        assert (allowed, left) == model.hit(now, limit, window)[:2]
        assert 0 < reset <= 2 * window
        assert model.left(now + reset + 1, limit, window) > left
        assert model.left(now + reset - 2, limit, window) <= left


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_exactly_the_limit_gets_through_whoever_counts(connect, redis_server, strategy):
    first, second = [await connect(redis_server.url, redis_timeout=10) for _ in range(2)]
    answers = await asyncio.gather(*((first, second)[i % 2].hit("k", 20, 600.0, strategy) for i in range(60)))
    allowed = [answer for answer in answers if answer[0]]
    assert sorted(left for _, left, _ in allowed) == list(range(20))
    assert {answer[:2] for answer in answers if not answer[0]} == {(False, 0)}
    assert all(0 < reset <= 1200 for _, _, reset in answers)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_there_are_more_calls_when_it_says_so(store, strategy):
    while True:
        allowed, _, reset = await store.hit("k", 2, 0.5, strategy)
        if not allowed:
            break
    begin = time.monotonic()
    while not (await store.hit("k", 2, 0.5, strategy))[0]:
        assert time.monotonic() - begin < reset + 0.3
        await asyncio.sleep(0.005)
    assert time.monotonic() - begin > reset - 0.02


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_limit_of_nothing_lets_nothing_through(store, strategy):
    allowed, left, reset = await store.hit("k", 0, 60.0, strategy)
    assert (allowed, left) == (False, 0)
    assert reset > 0


async def test_strategies_keys_and_values_do_not_meet(store):
    await store.set("k", b"1", 60)
    for strategy in STRATEGIES:
        for key in ("k", "l"):
            assert await store.hit(key, 1, 60.0, strategy) == (True, 0, pytest.approx(60, abs=61))
            assert (await store.hit(key, 1, 60.0, strategy))[0] is False


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_counts_do_not_stay_for_ever(store, redis_server, strategy):
    await store.hit("k", 5, 1.0, strategy)
    assert 0 < redis_server.ask("PTTL", f"nexus:{strategy}:k") <= 2000


@pytest.mark.parametrize("strategy", ["moving_window", "sliding_window"])
def test_a_clock_that_is_set_back_locks_nobody_out(redis_server, strategy):
    now, day = 1_700_000_000 * SECOND, 24 * HOUR
    for _ in range(3):
        run(redis_server, strategy, now, 2, HOUR)
    assert run(redis_server, strategy, now, 2, HOUR)[0] == 0
    answers = [run(redis_server, strategy, now - day + n, 2, HOUR) for n in range(3)]
    assert [allowed for allowed, _, _ in answers] == [1, 1, 0]
    assert all(0 < reset <= 2 * HOUR for _, _, reset in answers)


async def test_a_fixed_window_that_ends_too_late_is_none(store, redis_server):
    redis_server.ask("SET", "nexus:fixed_window:k", "3", "PX", 24 * 3600 * 1000)  # as after a clock that is set back
    assert [(await store.hit("k", 2, 60.0, "fixed_window"))[:2] for _ in range(3)] == [(True, 1), (True, 0), (False, 0)]
    assert redis_server.ask("PTTL", "nexus:fixed_window:k") <= 60_000
