"""The strategies in memory against simple models, at times that the test chooses; and against the scripts for Redis."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from nexus_ratelimit.counters import LocalCounters
from nexus_ratelimit.limits import Limit
from nexus_redis.scripts import HITS

SECOND = 1_000_000_000
MS = 1_000_000
STRATEGIES = ["sliding_window", "moving_window", "fixed_window"]
LIMITS = {
    "a": Limit(3, 1.0, "a"),
    "b": Limit(5, 7.0, "b"),
    "c": Limit(1, 0.3, "c"),
    "d": Limit(40, 60.0, "d"),
}


class Sliding:
    """How many calls each window had."""

    def __init__(self, limit):
        self.limit = limit
        self.counts = {}

    def left(self, now):
        index, spent = divmod(now, self.limit.length)
        before = self.counts.get(index - 1, 0) * (1 - Fraction(spent, self.limit.length))
        return max(0, math.floor(self.limit.calls - before - self.counts.get(index, 0)))

    def take(self, now):
        index = now // self.limit.length
        self.counts[index] = self.counts.get(index, 0) + 1


class Moving:
    """When each call was."""

    def __init__(self, limit):
        self.limit = limit
        self.times = []

    def left(self, now):
        return self.limit.calls - sum(each > now - self.limit.length for each in self.times)

    def take(self, now):
        self.times.append(now)


class Fixed:
    """When each window began, and how many calls it had."""

    def __init__(self, limit):
        self.limit = limit
        self.windows = []

    def left(self, now):
        count = sum(count for begin, count in self.windows[-1:] if now < begin + self.limit.length)
        return self.limit.calls - count

    def take(self, now):
        if not self.windows or now >= self.windows[-1][0] + self.limit.length:
            self.windows.append((now, 0))
        begin, count = self.windows.pop()
        self.windows.append((begin, count + 1))


MODELS = {"sliding_window": Sliding, "moving_window": Moving, "fixed_window": Fixed}


class Machine(RuleBasedStateMachine):
    """Makes calls with one budget or several, and lets time pass."""

    strategy = ""

    def __init__(self):
        super().__init__()
        self.now = 987_654_321_012_345
        self.counters = LocalCounters(self.strategy, 1000, lambda: self.now)
        self.models = {}

    @rule(nanoseconds=st.integers(0, 2 * SECOND) | st.sampled_from([0, 1, SECOND, 7 * SECOND, 60 * SECOND]))
    def wait(self, nanoseconds):
        self.now += nanoseconds

    @rule(days=st.integers(1, 1000))
    def sleep_for_long(self, days):
        self.now += days * 86_400 * SECOND

    @rule(names=st.lists(st.sampled_from(sorted(LIMITS)), min_size=1, max_size=3, unique=True), who=st.integers(0, 1))
    def call(self, names, who):
        self._call([(f"{who} {name}", LIMITS[name]) for name in names])

    @rule(name=st.sampled_from(sorted(LIMITS)), times=st.integers(1, 45))
    def many_calls(self, name, times):
        for _ in range(times):
            self._call([(f"0 {name}", LIMITS[name])])

    def _call(self, budgets):
        models = [self.models.setdefault(key, MODELS[self.strategy](limit)) for key, limit in budgets]
        verdict = self.counters.hit_now(budgets)
        refusing = [budget for budget, model in zip(budgets, models, strict=True) if model.left(self.now) < 1]
        assert verdict.allowed is not bool(refusing)
        if refusing:
            assert (verdict.budget, verdict.left) == (refusing[0], 0)
        else:
            for model in models:
                model.take(self.now)
            assert verdict.left == min(model.left(self.now) for model in models)
            assert self.models[verdict.budget[0]].left(self.now) == verdict.left
        self._check_reset(self.models[verdict.budget[0]], verdict)

    def _check_reset(self, model, verdict):
        """There are more calls when it says so, and not a millisecond earlier."""
        reset = round(verdict.reset * 1000) * MS
        assert model.left(self.now + reset) > verdict.left
        assert model.left(self.now + max(0, reset - MS)) <= verdict.left

    @precondition(lambda self: self.models)
    @invariant()
    def never_more_than_the_limit(self):
        assert all(model.left(self.now) >= 0 for model in self.models.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_its_model(strategy):
    machine = type(strategy, (Machine,), {"strategy": strategy})
    run_state_machine_as_test(machine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))


def at_times(name):
    """The script, with the time as arguments in place of the server's."""
    text = HITS[name].text
    changed = text.replace("redis.call('TIME')", "{ARGV[3], ARGV[4]}")
    assert changed != text
    return changed


# Hours, as the key's own expiry follows the server's clock; whole microseconds, as the scripts count them.
@pytest.mark.parametrize("strategy", ["sliding_window", "moving_window"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pauses=st.lists(st.integers(0, 3 * 3600 * 1_000_000), min_size=1, max_size=30), calls=st.integers(1, 5))
def test_memory_and_redis_count_in_the_same_way(redis_server, strategy, pauses, calls):
    redis_server.ask("DEL", "k")
    limit, now = Limit(calls, 3600.0, "x"), 1_700_000_000_123_457
    clock = [0]
    counters = LocalCounters(strategy, 10, lambda: clock[0])
    for pause in pauses:
        now += pause
        clock[0] = now * 1000
        there = redis_server.ask(
            "EVAL", at_times(strategy), 1, "k", calls, 3600 * 1_000_000, now // 1_000_000, now % 1_000_000
        )
        here = counters.hit_now([("k", limit)])
        assert (there[0], there[1]) == (here.allowed, here.left)
        assert there[2] / 1_000_000 == pytest.approx(here.reset, abs=0.002)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_memory_is_bounded_and_whole_budgets_are_forgotten(strategy):
    now = [0]
    counters = LocalCounters(strategy, 1000, lambda: now[0])
    limit = Limit(2, 60.0, "x")
    for each in range(5000):
        assert counters.hit_now([(f"{each}", limit)]).allowed
        assert len(counters) <= 1000
    assert len(counters) == 1000
    now[0] += 3 * 60 * SECOND
    for each in range(1000):
        counters.hit_now([("the same", limit)])
        counters.hit_now([(f"late {each}", limit)])
        now[0] += SECOND
    assert len(counters) < 200


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_calls_all_the_time_is_not_crowded_out(strategy):
    counters = LocalCounters(strategy, 100, lambda: 0)
    limit, allowed = Limit(5, 60.0, "x"), 0
    for each in range(2000):
        counters.hit_now([(f"{each}", limit)])
        allowed += counters.hit_now([("busy", limit)]).allowed
    assert allowed == 5


def test_a_moving_window_keeps_no_more_than_its_calls():
    now = [0]
    counters = LocalCounters("moving_window", 10, lambda: now[0])
    limit = Limit(1000, 1.0, "x")
    for _ in range(20_000):
        now[0] += 2 * MS
        assert counters.hit_now([("k", limit)]).allowed
    (window,) = counters.windows.values()
    assert len(window.times) <= 1001


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_time_of_day_does_not_matter(strategy, monkeypatch):
    import time

    counters = LocalCounters(strategy, 10)
    limit, real = Limit(3, 60.0, "x"), time.time
    for hours in (0, 1, -1, 24, -24, 1000):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + hours * 3600)
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: int((real() + hours * 3600) * SECOND))
        counters.hit_now([("k", limit)])
    verdict = counters.hit_now([("k", limit)])
    assert not verdict.allowed
    assert 0 < verdict.reset <= 120
