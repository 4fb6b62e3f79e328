"""Tests of run stores: what is written, and in which order."""

# ruff: noqa: D102  (the names of tests say what they test)

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nexus_core.runs.contract.base import LARGE, RunStoreTests, ended, reached, sample_end, sample_events, sample_record
from nexus_core.runs.record import (
    NEXT,
    PrincipalRecord,
    RunChange,
    RunEvent,
    RunFilter,
    RunStep,
)
from nexus_core.runs.status import RunStatus

if TYPE_CHECKING:
    from nexus_core.runs.store import RunStore


class WritingTests(RunStoreTests):
    """Runs begin, change and end."""

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

    def test_a_start_and_an_end_are_events_that_need_not_be_written(self) -> None:
        async def test(store: RunStore) -> None:
            at_once, little_by_little = sample_record(session_id="s1"), sample_record(session_id="s1")
            start: dict[str, Any] = {"status": RunStatus.RUNNING, "started_at": 5.0, "last_event": 1}
            end: dict[str, Any] = {
                "status": RunStatus.FAILED, "finished_at": 7.0, "result": None, "problem": {"code": "x"},
                "duration": 1.5,
            }  # fmt: skip
            whole = replace(RunChange.begin(at_once, RunStatus.RUNNING, 5.0), **end, last_event=2)
            assert await store.write([whole]) == await store.write([whole]) == [(True, 2)]
            await store.begin(little_by_little)
            assert await store.write([RunChange(little_by_little.id, **start)]) == [(True, 1)]
            (begun,) = await store.events(little_by_little.id)
            assert begun.to_dict()["type"] == "workflow.started"
            await store.append(little_by_little.id, 1, sample_events(2, 3))
            assert await store.end(sample_end(little_by_little, **end, last_event=4))
            for record, last in ((at_once, 2), (little_by_little, 4)):
                first, *between, failed = await store.events(record.id)
                common = {"run_id": record.id, "channel": "api", "session_id": "s1", "workflow": "add"}
                assert first.to_dict() == {"number": 1, "type": "workflow.started", "time": 5.0} | common
                assert failed.to_dict() == {
                    "number": last, "type": "workflow.failed", "time": 7.0, **common, "error": {"code": "x"},
                    "duration": 1.5,
                }  # fmt: skip
                assert between == [*sample_events(2, 3)][: last - 2]
                every = [first, *between, failed]
                for after in range(last + 1):
                    for limit in (1, 2, 10):
                        assert await store.events(record.id, after, limit) == every[after : after + limit]
                state = await store.get(record.id)
                assert state is not None
                assert (state.last_event, state.duration, state.started_at) == (last, 1.5, 5.0)

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
