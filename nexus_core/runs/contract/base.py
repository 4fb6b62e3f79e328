"""What the tests of `RunStoreContract` share."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from nexus_core.runs.record import (
    RunChange,
    RunEvent,
    RunFilter,
    RunRecord,
)
from nexus_core.runs.status import RunStatus, new_run_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

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


class RunStoreTests:
    """What the tests of a `RunStoreContract` have in common: how stores are made, opened and closed."""

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
