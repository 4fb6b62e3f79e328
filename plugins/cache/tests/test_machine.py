"""The cache against a dictionary: whatever is called, replaced, cancelled, damaged, away or over, in any order."""

from __future__ import annotations

import asyncio

import nexus_cache.shared_result_store
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from nexus_cache.caching import ResultCache
from nexus_cache.counts import CacheCounts
from nexus_cache.manager import CachePolicy
from nexus_cache.plan import CachePlans
from nexus_cache.result_store import LocalResultStore
from nexus_cache.shared_result_store import SharedResultStore

from nexus_core import BackendUnavailable, Invocation, Principal, WorkflowFailed, hookimpl
from nexus_core.state.memory_store import MemoryStore
from nexus_core.testing import isolated_nexus

TTL = 1000.0
USERS = st.sampled_from([None, "ada", "bob"])
NUMBERS = st.integers(0, 2)


class FragileStore(MemoryStore):
    """A store with a clock of the test's own, that can be away."""

    def __init__(self):
        super().__init__(clock=lambda: self.now)
        self.now = 0.0
        self.is_away = False

    async def _reached(self):
        await asyncio.sleep(0)  # as with a real one, others go on meanwhile
        if self.is_away:
            raise BackendUnavailable("away")

    async def _replied(self, reply):
        await asyncio.sleep(0)
        return reply

    async def get(self, key):
        await self._reached()
        return await self._replied(await super().get(key))

    async def set(self, key, value, ttl):
        await self._reached()
        return await self._replied(await super().set(key, value, ttl))

    async def add(self, key, value, ttl):
        await self._reached()
        return await self._replied(await super().add(key, value, ttl))

    async def replace(self, key, old, new, ttl):
        await self._reached()
        return await self._replied(await super().replace(key, old, new, ttl))

    async def delete(self, key, value=None):
        await self._reached()
        return await self._replied(await super().delete(key, value))


class Stage:
    def __init__(self, store):
        self.store = store

    @hookimpl
    def nexus_register_interceptors(self, nexus):
        self.cache = ResultCache(
            self.store, CachePlans(TTL, False), CachePolicy(None, nexus.threads, 1, 1), nexus.runs, 300.0, CacheCounts()
        )
        return [self.cache]


class CacheMachine(RuleBasedStateMachine):
    """Platforms on one store. A result is told from others by how many runs there were before it."""

    platforms = 1

    def result_store(self):
        return LocalResultStore(self.store, 10_000)

    @initialize()
    def make(self):
        self.runner = asyncio.Runner()
        self.store = FragileStore()
        self.ran = 0
        self.kept = {}  # (generation, user, n) -> (value, end)
        self.stages = [Stage(self.result_store()) for _ in range(self.platforms)]
        self.nexuses = [isolated_nexus(stage, max_concurrent_workflows=1000) for stage in self.stages]
        self.generations = [0] * self.platforms
        for nexus in self.nexuses:
            self.register(nexus)
            self.runner.run(nexus.__aenter__())

    def register(self, nexus):
        async def work(n: int, fail: bool = False) -> list[int]:
            self.ran += 1
            value = self.ran
            for _ in range(5):
                await asyncio.sleep(0)
            if fail:
                raise ValueError
            return [n, value]

        nexus.register("work", work, replace=True)

    def teardown(self):
        if hasattr(self, "runner"):
            for nexus in self.nexuses:
                self.runner.run(nexus.__aexit__(None, None, None))
            self.runner.close()

    def call(self, platform, user, n, **params):
        principal = None if user is None else Principal(user)
        return self.nexuses[platform].invoke(Invocation("work", {"n": n} | params, principal=principal))

    def there(self, platform, user, n):
        value, end = self.kept.get((self.generations[platform], user, n), (None, 0))
        return value if self.store.now < end and not self.store.is_away else None

    def keep(self, platform, user, n, value):
        if not self.store.is_away:
            self.kept[self.generations[platform], user, n] = (value, self.store.now + TTL)

    def check(self, answers, before, there):
        """There was one run, or none where there was a result; everybody has the same value, the right one."""
        assert self.ran == before + (there is None)
        assert {tuple(each.value) for each in answers} == {tuple(there or [answers[0].value[0], self.ran])}
        assert sum(not each.cached for each in answers) == (there is None)

    @rule(platform=st.integers(0, 1), user=USERS, n=NUMBERS, count=st.integers(1, 4))
    def calls(self, platform, user, n, count):
        platform %= self.platforms
        there, before = self.there(platform, user, n), self.ran

        async def together():
            return await asyncio.gather(*(self.call(platform, user, n) for _ in range(count)))

        answers = self.runner.run(together())
        assert all(each.value[0] == n for each in answers)
        self.check(answers, before, there)
        if there is None:
            self.keep(platform, user, n, answers[0].value)

    @rule(platform=st.integers(0, 1), user=USERS, n=NUMBERS, count=st.integers(1, 3))
    def calls_that_fail(self, platform, user, n, count):
        platform %= self.platforms
        before = self.ran

        async def together():
            failing = (self.call(platform, user, n, fail=True) for _ in range(count))
            return await asyncio.gather(*failing, return_exceptions=True)

        assert {type(each) for each in self.runner.run(together())} == {WorkflowFailed}
        assert self.ran == before + 1

    @rule(user=USERS, n=NUMBERS, turns=st.integers(0, 12), count=st.integers(0, 3))
    def the_first_caller_leaves(self, user, n, turns, count):
        there, before = self.there(0, user, n), self.ran

        async def leave():
            tasks = [asyncio.ensure_future(self.call(0, user, n)) for _ in range(count + 1)]
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[0].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        answers = self.runner.run(leave())
        self.no_lease_is_left_over()
        got = [each for each in answers if not isinstance(each, asyncio.CancelledError)]
        assert len(got) >= count
        assert len({tuple(each.value) for each in got}) <= 1
        if there is not None:
            assert self.ran == before
            assert all(each.value == there for each in got)
        else:
            assert self.ran - before <= 2
            self.forget_or_learn(user, n)

    def forget_or_learn(self, user, n):
        """Ask what is kept now: whether the one who left had kept its result is a matter of turns."""
        before = self.ran
        answer = self.runner.run(self.call(0, user, n))
        assert answer.cached == (self.ran == before)
        assert answer.value[1] <= self.ran
        self.keep(0, user, n, answer.value)

    @rule(seconds=st.sampled_from([1.0, TTL - 1, TTL]))
    def time_passes(self, seconds):
        self.store.now += seconds

    @invariant()
    def nothing_is_left_over(self):
        assert all(not stage.cache.in_flight for stage in self.stages if hasattr(stage, "cache"))

    @invariant()
    def no_lease_is_left_over(self):
        assert not any(b"lease" in value for value in self.values())

    def values(self):
        """What is in the store, whether it can be reached or not."""
        if not hasattr(self, "store"):
            return []
        return [self.step(MemoryStore.get, key) or b"" for key in self.store.keys()]

    def step(self, step, *args):
        return self.runner.run(step(self.store, *args))


class LocalMachine(CacheMachine):
    @rule()
    def the_workflow_is_replaced(self):
        self.register(self.nexuses[0])
        self.generations[0] += 1
        self.kept.clear()


class SharedMachine(CacheMachine):
    platforms = 2

    def result_store(self):
        return SharedResultStore(self.store, 10_000)

    @rule(user=USERS, n=NUMBERS, count=st.integers(1, 3))
    @precondition(lambda self: not self.store.is_away)
    def both_are_called(self, user, n, count):
        there, before = self.there(0, user, n), self.ran

        async def together():
            return await asyncio.gather(*(self.call(each, user, n) for _ in range(count) for each in (0, 1)))

        answers = self.runner.run(together())
        self.check(answers, before, there)
        if there is None:
            self.keep(0, user, n, answers[0].value)

    @rule(is_away=st.booleans())
    def the_store_goes_or_comes(self, is_away):
        self.store.is_away = is_away

    @rule(text=st.sampled_from([b"", b"null", b"\x80\x04\x95.", b'{"nexus_cache":"result.1"}']), data=st.data())
    @precondition(lambda self: len(self.store))
    def somebody_writes_to_the_store(self, text, data):
        key = data.draw(st.sampled_from(sorted(self.store.keys())))
        self.step(MemoryStore.set, key, text, TTL)
        self.kept = {}
        for other in [each for each in self.store.keys() if each != key]:
            self.step(MemoryStore.delete, other)


def _fast(machine):
    case = machine.TestCase
    case.settings = settings(
        max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    return case


class TestLocal(_fast(LocalMachine)):
    pass


class TestShared(_fast(SharedMachine)):
    def setUp(self):
        self.before = nexus_cache.shared_result_store.POLL_SECONDS
        nexus_cache.shared_result_store.POLL_SECONDS = (0.0, 0.001)

    def tearDown(self):
        nexus_cache.shared_result_store.POLL_SECONDS = self.before
