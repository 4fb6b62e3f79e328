"""`RunStoreContract`: the tests that every `RunStore` passes. It needs pytest, and hypothesis for one of its tests."""

# ruff: noqa: D102  (the names of tests say what they test)

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from nexus_core.errors import MalformedRequest
from nexus_core.runs.record import (
    NEXT,
    PrincipalRecord,
    Pruned,
    RunChange,
    RunCursor,
    RunEvent,
    RunFilter,
    RunRecord,
    RunRetention,
    RunStep,
)
from nexus_core.runs.status import ENDED, RunStatus, new_run_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from nexus_core.runs.record import RunState
    from nexus_core.runs.store import RunStore

SECONDS = 20.0
"""How long the tests wait for what must happen, on a busy machine."""

LEASE = 1.0
"""A short lease, for tests that wait for its end."""

LARGE = b'"%b"' % (b"x" * 300_000)


def sample_record(run_id: str = "", **members: Any) -> RunRecord:
    """Return a record for a test."""
    given: dict[str, Any] = {
        "workflow": "add",
        "channel": "api",
        "accepted_at": time.time(),
        "executor": "one",
    } | members
    return RunRecord(run_id or new_run_id(), **given)


def sample_end(record: RunRecord, **members: Any) -> RunChange:
    """Return a change that ends a run well."""
    end = RunChange(record.id, record.attempt, status=RunStatus.COMPLETED, finished_at=time.time(), result=b"3")
    return replace(end, **members)


def sample_events(*numbers: int) -> tuple[RunEvent, ...]:
    """Return events with these numbers."""
    return tuple(RunEvent(number, b'{"type":"workflow.event","time":%d}' % number) for number in numbers)


class RunStoreContract:
    """What every `RunStore` keeps to. Subclass it, and say how a store and the place of its data are made.

    Example::

        class TestContract(RunStoreContract):
            @pytest.fixture(autouse=True)
            def _folder(self, tmp_path):
                self.folder = tmp_path

            def place(self):
                return self.folder / new_run_id()

            def store(self, place):
                return MyRunStore(place)

    Attributes:
        examples: How many sequences of calls are compared with a model.
    """

    examples: ClassVar[int] = 25

    def place(self) -> Any:
        """Return an empty place for a store's data, such as the path of a file."""
        raise NotImplementedError

    def store(self, place: Any) -> RunStore:
        """Return a closed store of a place. For a shared one, this is called several times for the same place."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, *executors: str) -> AsyncIterator[list[RunStore]]:
        """Open stores of one new place, one for each executor, and close them at the end."""
        place = self.place()
        stores = [self.store(place) for _ in executors]
        for store, executor in zip(stores, executors, strict=True):
            await store.open(executor)
        try:
            yield stores
        finally:
            for store in stores:
                await store.close()

    def run(self, test: Callable[[RunStore], Awaitable[None]]) -> None:
        """Run a test on one open store."""

        async def on_one() -> None:
            async with asyncio.timeout(4 * SECONDS), self.opened("one") as (store,):
                await test(store)

        asyncio.run(on_one())

    def run_shared(self, test: Callable[[RunStore, RunStore], Coroutine[Any, Any, None]]) -> None:
        """Run a test on two open stores of one place; skip it for stores that are not shared."""
        if not self.store(self.place()).is_shared:
            pytest.skip("The store is not shared by processes.")

        async def on_two() -> None:
            async with asyncio.timeout(4 * SECONDS), self.opened("one", "two") as (one, two):
                await test(one, two)

        asyncio.run(on_two())

    # ---- beginning and reading

    def test_a_run_is_read_as_it_was_written(self) -> None:
        async def test(store: RunStore) -> None:
            principal = PrincipalRecord("ann", ("a", "b"), ("s",), "acme")
            full = sample_record(
                params=b'{"a":1}', owner="acme/ann", principal=principal, session_id="s1", deadline=time.time() + 5,
                version="2", schema_hash="abc", trace={"traceparent": "00-1"}, has_key=True, attempt=2, parent="p",
            )  # fmt: skip
            for record in (full, sample_record()):
                begun = await store.begin(record, RunStatus.RUNNING)
                assert (begun.record, begun.status) == (record, RunStatus.RUNNING)
                assert await store.get(record.id) == begun
            assert await store.get("no such run") is None

        self.run(test)

    def test_a_known_run_is_not_begun_again(self) -> None:
        async def test(store: RunStore) -> None:
            first = sample_record("r1", params=b'{"a":1}')
            await store.begin(first)
            other = replace(first, accepted_at=first.accepted_at + 1, params=b"{}")
            (written,) = await store.write([RunChange.begin(other)])
            assert not written.is_applied
            assert (await store.begin(other)).record == first
            results = await store.write([RunChange.begin(first), RunChange.begin(sample_record())])
            assert [each.is_applied for each in results] == [True, True]  # a repeat counts as applied

        self.run(test)

    def test_one_of_many_that_begin_the_same_run_does(self) -> None:
        async def test(store: RunStore) -> None:
            records = [sample_record("r1", accepted_at=float(number)) for number in range(1, 11)]
            written = await asyncio.gather(*(store.write([RunChange.begin(record)]) for record in records))
            assert sum(each.is_applied for (each,) in written) == 1

        self.run(test)

    def test_what_is_large_is_read_on_demand(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record(params=LARGE)
            await store.begin(record)
            await store.end(sample_end(record, result=LARGE + b" "))
            state = await store.get(record.id)
            assert state is not None
            assert (state.record.params, state.result) == (LARGE, LARGE + b" ")
            for light in (await store.get(record.id, payloads=False), *await store.find(RunFilter())):
                assert light is not None
                assert (light.record.params, light.result) == (None, None)
                assert (light.params_size, light.result_size) == (len(LARGE), len(LARGE) + 1)

        self.run(test)

    # ---- changing and ending

    def test_a_run_goes_through_its_statuses_and_ends_once(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            await store.begin(record)
            assert await store.set_status(record.id, 1, RunStatus.RUNNING, started_at=5.0)
            assert await store.set_status(record.id, 1, RunStatus.WAITING)
            assert not await store.set_status(record.id, 2, RunStatus.RUNNING)  # another attempt
            assert not await store.set_status("no such run", 1, RunStatus.RUNNING)
            end = sample_end(record, status=RunStatus.FAILED, result=None, problem={"code": "x", "status": 500})
            assert await store.end(end)
            assert not await store.set_status(record.id, 1, RunStatus.RUNNING)
            assert not await store.end(sample_end(record))
            assert await store.end(end)  # a repeat
            state = await store.get(record.id)
            assert state is not None
            assert (state.status, state.started_at, state.finished_at) == (RunStatus.FAILED, 5.0, end.finished_at)
            assert (state.result, state.problem) == (None, {"code": "x", "status": 500})

        self.run(test)

    def test_one_of_several_ends_counts(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            await store.begin(record)
            ends = [sample_end(record, finished_at=float(number)) for number in range(1, 9)]
            assert sum(await asyncio.gather(*(store.end(end) for end in ends))) == 1

        self.run(test)

    def test_a_run_that_begins_and_ends_in_one_change(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            change = replace(RunChange.begin(record).then(sample_end(record)), events=sample_events(1, 2))
            assert await store.write([change, change]) == [(True, 2), (True, 2)]
            state = await store.get(record.id)
            assert state is not None
            assert (state.status, state.result) == (RunStatus.COMPLETED, b"3")

        self.run(test)

    def test_changes_of_one_call_are_applied_in_order(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            late = RunChange(record.id, events=sample_events(2))
            changes = [RunChange.begin(record), RunChange(record.id, events=sample_events(1)), sample_end(record), late]
            assert await store.write(changes) == [(True, 0), (True, 1), (True, 1), (False, 1)]

        self.run(test)

    def test_what_is_written_later_is_there_soon_and_in_order(self) -> None:
        async def test(store: RunStore) -> None:
            records = [sample_record() for _ in range(200)]
            for record in records:
                store.write_later(RunChange.begin(record, RunStatus.RUNNING))
                store.write_later(RunChange(record.id, events=sample_events(1)))
            for record in records[:100]:
                store.write_later(sample_end(record))
            assert await store.end(sample_end(records[-1]))  # it comes after what was written later before it
            await reached(lambda: ended(store, records[99]))
            states = {state.record.id: state for state in await store.find(RunFilter(limit=1000))}
            assert [states[record.id].has_ended for record in records] == [True] * 100 + [False] * 99 + [True]
            assert all(state.last_event == 1 for state in states.values())
            assert store.statistics() == {"waiting": 0, "dropped": 0}

        self.run(test)

    # ---- events and steps

    def test_events_are_numbered_within_their_run(self) -> None:
        async def test(store: RunStore) -> None:
            record, other = sample_record(), sample_record()
            await store.begin_many([record, other])
            assert await store.append(record.id, 1, sample_events(1, 2, 3)) == 3
            assert await store.append(other.id, 1, sample_events(1)) == 1
            assert await store.append(record.id, 1, sample_events(2, 3, 4)) == 4  # two of them again
            assert await store.append(record.id, 2, sample_events(5)) == 4  # another attempt
            assert await store.append("no such run", 1, sample_events(1)) == 0
            assert await store.end(sample_end(record, events=(RunEvent(NEXT, b'{"type":"end"}'),)))
            assert await store.append(record.id, 1, sample_events(6)) == 5
            events = await store.events(record.id)
            assert events == [*sample_events(1, 2, 3, 4), RunEvent(5, b'{"type":"end"}')]
            assert await store.events(record.id, after=2, limit=2) == events[2:4]
            assert await store.events(record.id, after=5) == await store.events("no such run") == []
            state = await store.get(record.id)
            assert state is not None
            assert state.last_event == 5

        self.run(test)

    def test_steps_are_added_and_replaced(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            await store.begin(record)
            first, second = RunStep(1, "fetch", 1, 10.0), RunStep(2, "send", 1, 11.0)
            await store.write([RunChange(record.id, steps=(first, second))])
            failed = replace(first, attempt=2, ended_at=12.0, outcome="failed", size=7, error="no")
            await store.write([RunChange(record.id, steps=(failed,))])
            assert await store.steps(record.id) == [failed, second]
            assert await store.steps(record.id, after=1) == [second]
            assert await store.steps(record.id, limit=1) == [failed]
            assert await store.steps("no such run") == []

        self.run(test)

    # ---- listing

    def test_listing_by_every_filter(self) -> None:
        async def test(store: RunStore) -> None:
            await self._fill(store)
            everything = await store.find(RunFilter(limit=1000))
            assert [state.cursor for state in everything] == sorted((each.cursor for each in everything), reverse=True)
            assert len(everything) == 96
            for wanted in self._filters(everything):
                expected = [state for state in everything if wanted.matches(state)][: wanted.limit]
                assert await store.find(wanted) == expected, wanted

        self.run(test)

    async def _fill(self, store: RunStore) -> None:
        changes, number = [], 0
        for owner in (None, "ann", "bob"):
            for workflow in ("add", "mul"):
                for channel in ("api", "mcp"):
                    for status in (RunStatus.RUNNING, RunStatus.FAILED, RunStatus.COMPLETED, RunStatus.WAITING) * 2:
                        number += 1
                        run_id = f"{number // 4:06x}{(number * 7919) % 100_000:06x}"
                        record = sample_record(
                            run_id, workflow=workflow, channel=channel, owner=owner, accepted_at=1000.0 + number // 3
                        )
                        changes.append(
                            replace(RunChange.begin(record, status), finished_at=2000.0 if status in ENDED else None)
                        )
        assert all(each.is_applied for each in await store.write(changes))

    def _filters(self, everything: list[RunState]) -> list[RunFilter]:
        middle = everything[40]
        own = {
            "owner": "ann", "workflow": "mul", "status": RunStatus.FAILED, "channel": "mcp", "since": 1010.0,
            "until": 1022.0, "before": middle.cursor,
        }  # fmt: skip
        members: dict[str, Any] = own
        names = [*members]
        chosen = [[name for bit, name in enumerate(names) if mask >> bit & 1] for mask in range(2 ** len(names))]
        filters = [RunFilter(**{name: members[name] for name in each}, limit=7) for each in chosen]
        texts = [middle.record.id, middle.record.id[:8], middle.record.id[-8:], "no such run", "%_%_%_%_"]
        filters += [RunFilter(text=text, owner=owner) for text in texts for owner in (None, "ann", "bob", "eve")]
        return [*filters, RunFilter(workflow="nosuch"), RunFilter(owner="eve"), RunFilter(status=RunStatus.BLOCKED)]

    def test_pages_hold_while_runs_come_and_go(self) -> None:
        async def test(store: RunStore) -> None:
            await self._fill(store)
            everything = await store.find(RunFilter(limit=1000))
            seen, before = [], None
            while page := await store.find(RunFilter(before=before, limit=10)):
                seen += page
                before = RunCursor.parse(str(page[-1].cursor))
                await store.begin(sample_record(accepted_at=3000.0))  # newer ones come
            assert seen == everything

        self.run(test)

    def test_bad_pages_and_texts_are_refused(self) -> None:
        for bad in ("", "-", "x-1", "1.0", "1.0-", "nan-1", "inf-1", "-1-1", "1e999-1"):
            with pytest.raises(MalformedRequest):
                RunCursor.parse(bad)
        with pytest.raises(MalformedRequest):
            RunFilter(text="short")

    # ---- following and cancelling

    def test_following_from_the_beginning_to_the_end(self) -> None:
        async def test(store: RunStore) -> None:
            await self._followed(store, store)

        self.run(test)

    def test_following_in_another_process(self) -> None:
        self.run_shared(self._followed)

    async def _followed(self, writer: RunStore, reader: RunStore) -> None:
        record = sample_record()
        await writer.begin(record)
        await writer.append(record.id, 1, sample_events(1, 2))
        seen: list[int] = []

        async def follow(after: int) -> list[int]:
            numbers = []
            async for event in reader.follow(record.id, after):
                assert event is not None
                numbers.append(event.number)
                seen.append(event.number)
            return numbers

        followers = [asyncio.create_task(follow(after)) for after in (0, 0, 1, 9)]
        await until(lambda: len(seen) == 5)
        for number in range(3, 8):
            await writer.append(record.id, 1, sample_events(number))
            await until(partial(lambda number: seen.count(number) == 3, number))
        assert await writer.end(sample_end(record, events=sample_events(8)))
        numbers = [*range(1, 9)]
        assert await asyncio.gather(*followers) == [numbers, numbers, numbers[1:], []]
        assert await follow(5) == [6, 7, 8]  # after the end
        assert await reader.changed(record.id, 8, SECONDS)

    def test_waiting_for_a_change(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            await store.begin(record)
            assert not await store.changed(record.id, 0, 0.05)
            beats = store.follow(record.id, heartbeat=0.05)
            assert [await anext(beats), await anext(beats)] == [None, None]
            await beats.aclose()
            waiting = asyncio.create_task(store.changed(record.id, 0))
            await store.append(record.id, 1, sample_events(1))
            assert await waiting
            assert [event async for event in store.follow("no such run")] == []

        self.run(test)

    def test_a_cancellation_reaches_who_runs_it(self) -> None:
        async def test(store: RunStore) -> None:
            await self._cancelled(store, store)

        self.run(test)

    def test_a_cancellation_from_another_process(self) -> None:
        self.run_shared(self._cancelled)

    async def _cancelled(self, runner: RunStore, other: RunStore) -> None:
        record, foreign = sample_record(), sample_record(executor="somebody")
        await runner.begin_many([record, foreign])
        heard: list[str] = []
        stop = runner.on_cancel(heard.append)
        assert await other.request_cancel(foreign.id)
        assert await other.request_cancel(record.id)
        await until(lambda: record.id in heard)
        assert set(heard) == {record.id}
        state = await other.get(record.id)
        assert state is not None
        assert state.cancel_requested_at is not None
        await runner.end(sample_end(record, status=RunStatus.CANCELLED))
        assert not await other.request_cancel(record.id)
        assert not await other.request_cancel("no such run")
        stop()

    # ---- processes that die

    def test_runs_of_a_process_that_has_died_are_ended_once(self) -> None:
        async def test(one: RunStore, two: RunStore) -> None:
            going, ended_before, queued = sample_record(), sample_record(), sample_record(executor=None)
            await one.begin_many([going, ended_before, queued])
            await one.end(sample_end(ended_before))
            await one.append(going.id, 1, sample_events(1))
            follower = asyncio.create_task(collect(two, going.id))
            await one.renew(LEASE)
            await self._hold_lease(two)
            reaped = [state for each in await asyncio.gather(*(two.reap() for _ in range(3))) for state in each]
            assert [state.record.id for state in reaped] == [going.id]
            state = await two.get(going.id)
            assert state is not None
            assert state.problem is not None
            assert (state.status, state.problem["code"]) == (RunStatus.FAILED, "run_interrupted")
            assert [event.to_dict()["number"] for event in await follower] == [1, 2]
            assert not await one.end(sample_end(going))  # it comes back too late
            assert await two.reap() == []

        self.run_shared(test)

    async def _hold_lease(self, store: RunStore) -> None:
        """Keep a process alive until it may end others' runs, and one has that ended at the beginning."""
        end = time.monotonic() + 2.5 * LEASE
        while time.monotonic() < end:
            await store.renew(LEASE)
            await asyncio.sleep(LEASE / 5)

    def test_a_process_that_has_just_come_back_ends_no_runs(self) -> None:
        async def test(one: RunStore, two: RunStore) -> None:
            record = sample_record()
            await one.begin(record)
            await one.renew(0.01)
            await two.renew(0.01)
            await asyncio.sleep(0.1)
            assert await two.expired() == []  # its own lease has lapsed
            await two.renew(10.0)
            assert await two.expired() == []  # and is not old enough yet

        self.run_shared(test)

    def test_a_process_that_is_alive_keeps_its_runs(self) -> None:
        async def test(one: RunStore, two: RunStore) -> None:
            await one.begin(sample_record())
            await one.renew(60.0)
            await self._hold_lease(two)
            assert await two.expired() == []

        self.run_shared(test)

    # ---- pruning

    def test_pruning(self) -> None:
        async def test(store: RunStore) -> None:
            now = time.time()
            for number in range(12):
                record = sample_record(f"run-{number:02}", workflow="add" if number % 2 else "mul", params=b"x" * 10)
                end = sample_end(record, finished_at=now - 100 + number, result=b"y" * 10)
                await store.write([RunChange.begin(record), end, RunChange(record.id)])
            await store.begin(sample_record("running", params=b"x" * 20))
            assert await store.prune(RunRetention()) == (0, 0, True)
            old = RunRetention(max_age=97.5)
            assert await store.prune(old, dry_run=True) == (3, 60, True)
            assert await store.prune(old, limit=2) == Pruned(2, 40, False)
            assert await store.prune(old, limit=2) == Pruned(1, 20, True)
            assert await ids(store) == [f"run-{number:02}" for number in range(3, 12)] + ["running"]
            assert await store.prune(RunRetention(max_runs=9)) == (1, 20, True)
            assert await store.prune(RunRetention(max_bytes=140)) == (2, 40, True)
            assert await ids(store) == [f"run-{number:02}" for number in range(6, 12)] + ["running"]
            of_one = RunRetention(workflows={"mul": RunRetention(max_runs=1), "none": RunRetention(max_runs=0)})
            assert await store.prune(of_one, dry_run=True) == (2, 40, True)
            assert await store.prune(of_one) == (2, 40, True)
            assert await ids(store) == ["run-07", "run-09", "run-10", "run-11", "running"]
            assert await store.prune(RunRetention(max_runs=0)) == (4, 80, True)
            assert await ids(store) == ["running"]

        self.run(test)

    def test_all_that_belongs_to_a_run_is_pruned_with_it(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record("r1", params=LARGE)
            step = RunStep(1, "fetch", 1, 10.0)
            change = replace(RunChange.begin(record), events=sample_events(1, 2), steps=(step,))
            await store.write([change, sample_end(record, finished_at=1.0, result=LARGE)])
            pruned = await store.prune(RunRetention(max_age=10.0))
            assert pruned.runs == 1
            assert pruned.bytes >= 2 * len(LARGE)
            assert [await store.get("r1"), await store.events("r1"), await store.steps("r1")] == [None, [], []]
            await store.begin(record)  # the id is free again
            state = await store.get("r1")
            assert state is not None
            assert (state.record, state.last_event, await store.steps("r1")) == (record, 0, [])

        self.run(test)

    # ---- the store itself

    def test_its_check_returns_details(self) -> None:
        async def test(store: RunStore) -> None:
            assert isinstance(await store.check(), dict)

        self.run(test)

    def test_what_a_shared_store_holds_survives_its_process(self) -> None:
        async def test() -> None:
            place = self.place()
            first, second = self.store(place), self.store(place)
            await first.open("one")
            record = sample_record()
            first.write_later(replace(RunChange.begin(record), events=sample_events(1)))
            await first.close()  # it writes what waits
            await second.open("two")
            state = await second.get(record.id)
            assert state is not None
            assert state.record == record
            await second.close()

        if not self.store(self.place()).is_shared:
            pytest.skip("The store is not shared by processes.")
        asyncio.run(test())

    def test_sequences_of_calls_do_what_a_model_does(self) -> None:
        pytest.importorskip("hypothesis")
        from nexus_core.runs.store_machine import run_machine

        run_machine(self, self.examples)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until a condition holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  (a test doesn't know what changes it)
            await asyncio.sleep(0.002)


async def reached(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask until a condition holds."""
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def ended(store: RunStore, record: RunRecord) -> bool:
    """Whether a store holds a run as ended."""
    state = await store.get(record.id)
    return state is not None and state.has_ended


async def collect(store: RunStore, run_id: str) -> list[RunEvent]:
    """Follow a run to its end."""
    return [event async for event in store.follow(run_id) if event is not None]


async def ids(store: RunStore) -> list[str]:
    """Return the ids of all runs."""
    return sorted(state.record.id for state in await store.find(RunFilter(limit=1000)))
