"""`MemoryEngine`: a run engine whose database is an object of this process, for several platforms in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from nexus_core import hookimpl
from nexus_core.errors import BackendUnavailable
from nexus_core.runs.engine import RunEngine
from nexus_core.runs.journal import JournalMismatch
from nexus_core.runs.memory import MemoryRunStore
from nexus_core.runs.work import Beginning, WaitReason, Work, Worker, WorkPosition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class SharedStore(MemoryRunStore):
    """A run store that several platforms in this process share."""

    name = "kept"
    is_shared = True

    def __init__(self, other: SharedStore | None = None) -> None:
        super().__init__()
        if other is not None:
            vars(self).update({name: value for name, value in vars(other).items() if name != "executor"})

    async def request_cancel(self, run_id: str) -> bool:
        goes_on = await super().request_cancel(run_id)
        if goes_on:
            for listener in [*self._cancels]:
                listener(run_id)
        return goes_on


class Journals:
    """What the engines of all platforms have recorded."""

    def __init__(self) -> None:
        self.store = SharedStore()
        self.tasks: dict[str, bytes] = {}
        self.workflows: dict[str, str] = {}
        self.outcomes: dict[str, list[tuple[str, bytes]]] = {}
        self.attempts: dict[str, int] = {}
        self.taken: set[str] = set()
        self.ended: set[str] = set()
        self.engines: list[MemoryEngine] = []

    def wake(self) -> None:
        for engine in self.engines:
            engine.look()


class MemoryEngine(RunEngine):
    """An engine whose database is a `Journals`."""

    name = "memory"

    def __init__(self, journals: Journals) -> None:
        self.journals = journals
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._worker: Worker | None = None
        self.pages: dict[str, Pages] = {}
        self.is_away = False

    async def open(self, executor: str, worker: Worker | None) -> None:
        self._worker = worker
        self.journals.engines.append(self)
        self.look()

    async def close(self) -> None:
        self._worker = None
        self.journals.engines.remove(self)
        await self.die()

    async def die(self) -> None:
        """End what runs here."""
        self._worker = None
        for run_id, task in [*self._tasks.items()]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.journals.taken.discard(run_id)
        self.journals.wake()

    def crash(self) -> None:
        """Let others work on what runs here, which goes on all the same: a process that was suspended."""
        self._worker = None
        for run_id in self._tasks:
            self.pages[run_id].is_lost = True
            self.journals.taken.discard(run_id)
        self.journals.wake()

    async def start(self, work: Work, beginning: Beginning | None = None) -> None:
        if self.is_away:
            raise BackendUnavailable("The engine is away.")
        if work.run_id not in self.journals.tasks:
            self.journals.tasks[work.run_id] = work.task
            self.journals.workflows[work.run_id] = work.workflow
            self.journals.wake()

    async def cancel(self, run_id: str) -> None:
        self.journals.ended.add(run_id)

    async def known(self, run_ids: Any) -> set[str]:
        return {*run_ids} & self.journals.tasks.keys()

    def _waiting(self) -> list[str]:
        journals = self.journals
        return [run_id for run_id in journals.tasks if run_id not in journals.taken | journals.ended]

    def _served(self) -> set[str]:
        workers = [engine._worker for engine in self.journals.engines if engine._worker is not None]
        return {name for worker in workers for name in worker.offers()}

    async def position(self, run_id: str) -> WorkPosition | None:
        if self.is_away:
            raise BackendUnavailable("The engine is away.")
        waiting = self._waiting()
        if run_id not in waiting:
            return None
        is_served = self.journals.workflows[run_id] in self._served()
        return WorkPosition(waiting.index(run_id), WaitReason.TURN if is_served else WaitReason.NO_WORKER)

    async def unserved(self) -> dict[str, int]:
        served = self._served()
        return Counter(name for name in map(self.journals.workflows.__getitem__, self._waiting()) if name not in served)

    async def check(self) -> dict[str, Any]:
        return {}

    def look(self) -> None:
        journals = self.journals
        offered = self._worker.offers() if self._worker else {}
        for run_id in journals.tasks.keys() - journals.taken - journals.ended:
            if journals.workflows[run_id] not in offered:
                continue
            journals.taken.add(run_id)
            self._tasks[run_id] = asyncio.ensure_future(self._work(run_id))

    async def _work(self, run_id: str) -> None:
        journals = self.journals
        journals.attempts[run_id] = journals.attempts.get(run_id, 0) + 1
        assert self._worker is not None
        page = self.pages[run_id] = Pages(journals, run_id)
        await self._worker.perform(run_id, journals.tasks[run_id], page)
        if not page.is_lost:
            journals.ended.add(run_id)


class Pages:
    """The journal of one run."""

    def __init__(self, journals: Journals, run_id: str) -> None:
        self._outcomes = journals.outcomes.setdefault(run_id, [])
        self.attempt = journals.attempts[run_id]
        self._place = 0
        self.is_lost = False

    async def once(self, name: str, call: Callable[[], Awaitable[bytes]]) -> bytes:
        place, self._place = self._place, self._place + 1
        while len(self._outcomes) <= place:
            self._outcomes.append(("", b""))
        recorded, outcome = self._outcomes[place]
        if recorded:
            if recorded != name:
                raise JournalMismatch(place + 1, recorded, name)
            return outcome
        outcome = await call()
        if self.is_lost:
            await asyncio.Event().wait()
        self._outcomes[place] = (name, outcome)
        return outcome


class Gives:
    """A plugin with a run store and an engine."""

    def __init__(self, journals: Journals) -> None:
        self.journals = journals
        self.engine = MemoryEngine(journals)

    @hookimpl
    def nexus_register_run_stores(self) -> list[Any]:
        return [SharedStore(self.journals.store)]

    @hookimpl
    def nexus_register_run_engines(self) -> list[Any]:
        return [self.engine]
