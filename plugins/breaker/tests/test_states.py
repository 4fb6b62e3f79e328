"""Circuits against a simple model, whatever happens in whatever order: of one process, and of two with one store."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from nexus_breaker.breaker import Breaker
from nexus_breaker.records import LEASE_SECONDS, Records
from nexus_breaker.shared import SharedCircuit
from nexus_breaker.states import CircuitRules
from nexus_breaker.tasks import BackgroundTasks
from nexus_toolkit.outage_log import OutageLog

from nexus_core import (
    BackendUnavailable,
    CircuitOpen,
    Invocation,
    Result,
    ValidationError,
    Workflow,
    WorkflowFailed,
    WorkflowTimeout,
)
from nexus_core.state.memory_store import MemoryStore

THRESHOLD, RESET = 3, 5.0
ENDS = {
    "success": None,
    "failure": WorkflowFailed("x"),
    "timeout": WorkflowTimeout("x"),
    "caller": ValidationError("x"),
    "crash": RuntimeError("x"),
    "cancelled": None,
}
processes = st.sampled_from([0, 1])
endings = st.sampled_from([*ENDS, "failure", "failure", "failure", "success"])  # what matters most comes most


@dataclass(eq=False)
class CallUnderWay:
    """A call that was let through."""

    process: int
    epoch: int
    probe: bool
    lease: float
    task: asyncio.Task = field(repr=False)
    end: asyncio.Future = field(repr=False)


class Model:
    """One circuit, at one place, written down as plainly as can be."""

    def __init__(self, clock, lease):
        self.clock = clock
        self.lease = lease
        self.failures = 0
        self.opened_at = None
        self.probe = None
        self.probe_lost_at = None
        self.epoch = 0

    def lets_through(self):
        if self.opened_at is None:
            return True
        if self.clock() < self.opened_at + RESET:
            return False
        return self.probe is None or self.clock() >= self.probe_lost_at

    def began(self, call):
        call.epoch, call.probe = self.epoch, self.opened_at is not None
        if call.probe:
            self.probe, self.probe_lost_at = call, self.clock() + self.lease

    def ended(self, call, how):
        if call.epoch != self.epoch:
            return
        if self.opened_at is not None and self.probe is not call:
            return
        if how == "success":
            if self.opened_at is not None:
                self.epoch += 1
            self.failures, self.opened_at, self.probe = 0, None, None
        elif how in ("failure", "timeout"):
            self.failures += 1
            if self.probe is call or self.failures >= THRESHOLD:
                self.opened_at, self.probe = self.clock(), None
        elif self.probe is call:
            self.probe = None


async def _awaited(breaker, invocation, call_next):
    return await breaker(invocation, call_next)


class Named(Workflow):
    async def run(self, params, context):
        raise NotImplementedError


class Machine(RuleBasedStateMachine):
    """Makes calls of one workflow in some processes, and lets them end."""

    under_way = Bundle("under_way")

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.loop = asyncio.new_event_loop()
        self.workflows = [Named("order", input_schema={"type": "object"}) for _ in range(2)]
        self.breakers = [self.make(process) for process in range(2)]
        self.alive = []

    def make(self, process):
        raise NotImplementedError

    def circuit(self, process):
        breaker, workflow = self.breakers[process], self.workflows[process]
        return breaker.circuit_of(workflow)

    def turn(self, work=None):
        """Let everything happen that needs no time, and no answer to a call."""

        async def turns():
            for _ in range(30):
                await asyncio.sleep(0)

        if work is not None:
            self.loop.run_until_complete(work)
        self.loop.run_until_complete(turns())

    def call(self, process):
        """Begin a call; return it, or None if it was refused."""
        task, end = self.start(process)
        self.turn()
        return self.let_through(process, task, end)

    def begin_together(self):
        """Begin some calls in each process at once; see `call`."""
        started = [(process, *self.start(process)) for process in (0, 1, 0, 1)]
        self.turn()
        return [self.let_through(*each) for each in started]

    def start(self, process):
        end = self.loop.create_future()

        async def call_next(invocation):
            error = await end
            if error is not None:
                raise error
            return Result(b"1", "run")

        invocation = Invocation("order", {}, workflow=self.workflows[process])
        return self.loop.create_task(_awaited(self.breakers[process], invocation, call_next)), end

    def let_through(self, process, task, end):
        if task.done():
            assert type(task.exception()) is CircuitOpen
            assert 0 < task.exception().retry_after <= RESET
            return None
        call = CallUnderWay(process, 0, False, 0.0, task, end)
        self.alive.append(call)
        return call

    def end(self, call, how):
        self.alive.remove(call)
        if how == "cancelled":
            call.task.cancel()
        else:
            call.end.set_result(ENDS[how])
        self.turn()
        assert call.task.done()
        if how == "cancelled":
            assert call.task.cancelled()
        else:
            assert call.task.exception() is ENDS[how]

    def teardown(self):
        for call in list(self.alive):
            self.end(call, "cancelled")
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.turn()
        self.loop.close()


class OneProcess(Machine):
    """The circuit of one process is the model, at every step."""

    under_way = Bundle("under_way")
    lease = float("inf")

    def __init__(self):
        super().__init__()
        self.model = Model(lambda: self.now, self.lease)

    def make(self, process):
        return Breaker(CircuitRules(THRESHOLD, RESET), None, lambda *_: None, clock=lambda: self.now)

    def pick(self, process):
        return 0

    @rule(target=under_way, process=processes)
    def begin(self, process):
        expected = self.model.lets_through()
        call = self.call(self.pick(process))
        assert (call is not None) == expected
        if call is None:
            return None
        self.model.began(call)
        return call

    @rule(call=consumes(under_way), how=endings)
    def finish(self, call, how):
        if call is not None:
            self.end(call, how)
            self.model.ended(call, how)

    @rule(process=processes, how=endings)
    def whole_call(self, process, how):
        call = self.begin(process)
        self.finish(call, how)

    @rule(seconds=st.sampled_from([0.1, 1.0, RESET / 2, RESET, LEASE_SECONDS, 60.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @invariant()
    def it_is_as_the_model_says(self):
        for process in {self.pick(0), self.pick(1)}:
            state = self.circuit(process).state
            assert (state.until is not None) == (self.model.opened_at is not None)
            assert bool(state.probe) == (self.model.probe is not None)
            assert state.failures == self.model.failures or self.model.opened_at is not None


class Shared(MemoryStore):
    """A store that two processes share, in the memory of one; it can be away."""

    name = "shared"
    away = False

    def _get(self, key):
        self.answer()
        return super()._get(key)

    def _set(self, key, value, ttl):
        self.answer()
        super()._set(key, value, ttl)

    def answer(self):
        if self.away:
            raise BackendUnavailable("away")


class SharedMachine(Machine):
    """Breakers of two processes, with clocks of their own, on one store."""

    def __init__(self):
        self.now = 1000.0
        self.store = Shared(clock=lambda: self.now)
        super().__init__()

    def make(self, process):
        def clock():
            return self.now + process * 5000.0

        def shared_factory(name, rules):
            return SharedCircuit(
                name, rules, clock, lambda *_: None, store=self.store, records=Records(clock, lambda: self.now),
                outage=OutageLog(logging.getLogger("test"), "away", "back"), tasks=BackgroundTasks(),
            )  # fmt: skip

        return Breaker(CircuitRules(THRESHOLD, RESET), None, lambda *_: None, shared_factory)

    def look(self):
        for process in range(2):
            self.turn(self.circuit(process).refresh())


class TwoProcesses(SharedMachine, OneProcess):
    """Two processes whose copies are fresh are one circuit: the same model."""

    under_way = Bundle("under_way")
    lease = LEASE_SECONDS

    def pick(self, process):
        return process

    def call(self, process):
        call = super().call(process)
        self.look()
        return call

    def end(self, call, how):
        super().end(call, how)
        self.look()


class OldCopies(SharedMachine):
    """Two processes that go by old copies, with a store that comes and goes."""

    under_way = Bundle("under_way")

    def __init__(self):
        super().__init__()
        self.was_away = False

    @rule(target=under_way, process=processes)
    def begin(self, process):
        circuit = self.circuit(process)
        was_closed = circuit.state.until is None
        call = self.call(process)
        if was_closed:
            assert call is not None
        if call is None:
            return None
        call.probe, call.lease = circuit.state.until is not None and not was_closed, self.now + LEASE_SECONDS
        if call.probe and not self.was_away:
            others = [each for each in self.alive if each.probe and each is not call and each.lease > self.now]
            assert others == []
        return call

    @rule(call=consumes(under_way), how=endings)
    def finish(self, call, how):
        if call in self.alive:
            self.end(call, how)

    @rule(seconds=st.sampled_from([0.1, 0.6, RESET, LEASE_SECONDS]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(process=processes)
    def one_looks(self, process):
        self.turn(self.circuit(process).refresh())

    @precondition(lambda self: not self.was_away)
    @rule()
    def both_call_when_it_may_be_tried(self):
        """Open the circuit, let both know, and let both call in the same moment when its time has come."""
        for call in list(self.alive):
            self.end(call, "cancelled")
        self.now += LEASE_SECONDS
        for _ in range(THRESHOLD):
            if (call := self.call(0)) is not None:
                self.end(call, "failure")
        self.look()
        self.now += RESET
        self.look()
        assert all(self.circuit(process).state.until <= self.now + process * 5000.0 for process in range(2))
        calls = [call for call in self.begin_together() if call is not None]
        assert len(calls) == 1
        self.end(calls[0], "success")
        self.look()

    @rule()
    def the_store_goes_away(self):
        self.store.away = self.was_away = True

    @precondition(lambda self: self.store.away)
    @rule()
    def the_store_comes_back(self):
        self.store.away = False

    @precondition(lambda self: not self.was_away)
    @rule()
    def both_look(self):
        self.look()
        first, second = (self.circuit(process).state for process in range(2))
        assert (first.failures, first.until is None, first.probe) == (
            second.failures,
            second.until is None,
            second.probe,
        )

    def teardown(self):
        """Nothing blocks for ever: with the store there and time passed, a success of each closes everything."""
        self.store.away = False
        for call in list(self.alive):
            self.end(call, "cancelled")
        for _ in range(2):
            self.now += 60.0
            for process in range(2):
                self.turn(self.circuit(process).refresh())
                call = self.call(process)
                assert call is not None
                self.end(call, "success")
        self.look()
        for process in range(2):
            state = self.circuit(process).state
            assert (state.failures, state.until) == (0, None)
        assert self.loop.run_until_complete(self.store.get("breaker:order")) is None
        super().teardown()


steps = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestOneProcess = OneProcess.TestCase
TestTwoProcesses = TwoProcesses.TestCase
TestOldCopies = OldCopies.TestCase
TestOneProcess.settings = TestTwoProcesses.settings = TestOldCopies.settings = steps
