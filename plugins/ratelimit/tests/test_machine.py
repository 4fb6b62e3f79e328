"""Two processes with one real Redis that comes and goes, against a simple model."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from nexus_ratelimit.counters import LocalCounters
from nexus_ratelimit.limits import Limit
from nexus_ratelimit.shared import ExhaustedBudgets, SharedCounters
from nexus_redis.address import parse
from nexus_redis.client import RedisClient
from nexus_redis.store import RedisStore
from nexus_toolkit.outage_log import OutageLog

from nexus_core import BackendUnavailable
from nexus_core.options.settings import MAX_SECONDS

# So long that no time passes: what the strategies do with time is tested where time is the test's own.
LIMITS = {"a": Limit(4, MAX_SECONDS, "a"), "b": Limit(7, MAX_SECONDS, "b"), "c": Limit(1, MAX_SECONDS, "c")}
processes = st.sampled_from([0, 1])
names = st.lists(st.sampled_from(sorted(LIMITS)), min_size=1, max_size=2, unique=True)


class Link:
    """One process' way to the store, which may be cut."""

    def __init__(self, store):
        self.store = store
        self.is_cut = False

    async def hit(self, *asked):
        if self.is_cut:
            raise BackendUnavailable("The store is away.")
        return await self.store.hit(*asked)


class Machine(RuleBasedStateMachine):
    strategy = ""
    url = ""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        Machine.number = getattr(Machine, "number", 0) + 1
        self.prefix = f"{self.strategy}{Machine.number}"
        client = RedisClient(parse(self.url), pool_size=2, max_connections=4, timeout=5.0, prefix="nexus:")
        self.client = client
        self.loop.run_until_complete(client.open())
        self.links = [Link(RedisStore(client)) for _ in range(2)]
        self.processes = [
            SharedCounters(
                link,
                self.strategy,
                LocalCounters(self.strategy, 100),
                OutageLog(logging.getLogger("test"), "away", "back"),
                ExhaustedBudgets(100),
            )
            for link in self.links
        ]
        self.shared = Counter()
        self.own = [Counter(), Counter()]
        self.known = [set(), set()]

    @rule(process=processes, names=names)
    def call(self, process, names):
        budgets = [(f"{self.prefix} {name}", LIMITS[name]) for name in names]
        verdict = self.loop.run_until_complete(self.processes[process].hit(budgets))
        refusing, left = self._expected(process, names)
        assert verdict.allowed is (refusing is None)
        assert verdict.left == left
        assert verdict.reset > 0
        if refusing is not None:
            assert verdict.budget == (f"{self.prefix} {refusing}", LIMITS[refusing])

    def _expected(self, process, names):
        """Who refuses a call, and what is left: after it is taken from whatever it is taken from."""
        for name in names:
            if name in self.known[process]:
                return name, 0
        if self.links[process].is_cut:
            counts = self.own[process]
            for name in names:
                if counts[name] >= LIMITS[name].calls:
                    return name, 0
            counts.update(names)
            return None, min(LIMITS[name].calls - counts[name] for name in names)
        lefts = []
        for name in names:
            allowed = self.shared[name] < LIMITS[name].calls
            self.shared[name] += allowed
            lefts.append(LIMITS[name].calls - self.shared[name])
            if lefts[-1] == 0:
                self.known[process].add(name)
            if not allowed:
                return name, 0
        return None, min(lefts)

    @rule(process=processes)
    def cut(self, process):
        self.links[process].is_cut = True

    @rule(process=processes)
    def mend(self, process):
        self.links[process].is_cut = False

    def teardown(self):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


@pytest.mark.parametrize("strategy", ["sliding_window", "moving_window", "fixed_window"])
def test_shared_budgets_are_their_model(redis_server, strategy):
    machine = type(strategy, (Machine,), {"strategy": strategy, "url": redis_server.url})
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    options = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=health)
    run_state_machine_as_test(machine, settings=options)
