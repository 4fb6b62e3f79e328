"""Tests of run stores: listing and following."""

# ruff: noqa: D102  (the names of tests say what they test)

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core.errors import MalformedRequest
from nexus_core.runs.contract.base import SECONDS, RunStoreTests, sample_end, sample_events, sample_record, until
from nexus_core.runs.record import (
    RunChange,
    RunCursor,
    RunFilter,
)
from nexus_core.runs.status import ENDED, RunStatus

if TYPE_CHECKING:
    from nexus_core.runs.record import RunState
    from nexus_core.runs.store import RunStore


class ReadingTests(RunStoreTests):
    """Runs are listed, followed and cancelled."""

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
