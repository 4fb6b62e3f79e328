"""`PostgresRunStore`: runs in PostgreSQL, for all processes that use the same schema."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from nexus_core.errors import BackendUnavailable
from nexus_core.runs.store import LEASE_SECONDS, PRUNED, REAPED, RunStore
from nexus_runs import postgres_questions, postgres_schema, postgres_steps
from nexus_runs.change_queue import ChangeQueue, unavailable
from nexus_runs.postgres_client import PostgresClient, Rescuer
from nexus_runs.postgres_listener import PostgresListener
from nexus_runs.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nexus_core.runs.question import QuestionClosing, QuestionFilter, RunQuestion
    from nexus_core.runs.record import RunChange, RunEvent, RunFilter, RunState, RunStep, Written
    from nexus_core.runs.retention import Pruned, RunRetention

log = logging.getLogger(__name__)

PRUNE_SECONDS = 30.0
"""Time limit for a pass of pruning."""


class PostgresRunStore(RunStore):
    """See `RunStore`. Changes are announced by NOTIFY, and one connection of each process listens.

    Args:
        url: The URL of PostgreSQL.
        schema: The schema of the tables.
        connections: Maximum number of connections in addition to the one that listens.
        timeout: Seconds for a statement.
        max_waiting: How many changes that may be late wait at most while PostgreSQL can't be reached.
        max_waiting_bytes: How many bytes of them.
    """

    name = "postgres"
    is_shared = True

    def __init__(
        self, url: str, schema: str = "nexus_runs", connections: int = 4, timeout: float = 3.0,
        max_waiting: int = 10_000, max_waiting_bytes: int = 32 * 1024 * 1024,
    ) -> None:  # fmt: skip
        super().__init__()
        self._client = PostgresClient(url, schema, connections, timeout)
        self._watchers = Watchers(lambda: None)
        self._rescuer: Rescuer | None = None
        self._queue = ChangeQueue(self.name, self._apply, self._applied, max_waiting, max_waiting_bytes)
        self._listener = PostgresListener(self._client, self._watchers, partial(postgres_schema.prepare, schema=schema))

    async def open(self, executor: str) -> None:
        """See `RunStore.open`."""
        self.executor = executor
        await self._client.open()
        try:
            await self._listener.open(executor)
        except BaseException:
            await self._client.close()
            raise
        self._queue.is_open = True
        try:
            await self.renew()
        except BackendUnavailable as exc:
            log.debug("The lease could not be taken yet", exc_info=exc)

    async def close(self) -> None:
        """See `RunStore.close`."""
        await self._listener.close()
        await self._queue.close()
        try:
            await self._client.run(_release, self.executor, seconds=1.0)
        except BackendUnavailable as exc:
            log.debug("The lease could not be given up", exc_info=exc)
        await self._client.close()
        self.executor = ""

    async def check(self) -> dict[str, Any]:
        """See `RunStore.check`."""
        details: dict[str, Any] = await self._client.run(postgres_steps.check, self.executor, for_operators=True)
        return {"server": self._client.server} | details | self.statistics()

    def statistics(self) -> dict[str, int]:
        """See `RunStore.statistics`."""
        return {"waiting": self._queue.waiting, "dropped": self._queue.dropped}

    async def write(self, changes: Sequence[RunChange]) -> list[Written]:
        """See `RunStore.write`."""
        return await self._queue.write(changes)

    def write_later(self, change: RunChange) -> None:
        """See `RunStore.write_later`."""
        self._queue.write_later(change)

    async def _apply(self, changes: Sequence[RunChange], is_awaited: bool) -> list[Written]:
        arguments = (changes, is_awaited, self.executor, self._listener.channel)
        written: list[Written] = await self._client.run(postgres_steps.write, *arguments)
        return written

    def _applied(self, changes: Sequence[RunChange], written: Sequence[Written]) -> None:
        self._watchers.applied(self.executor, changes, written)

    async def get(self, run_id: str, *, payloads: bool = True) -> RunState | None:
        """See `RunStore.get`."""
        if not run_id.isprintable():  # no run has such an id, and not every one can be looked up
            return None
        state: RunState | None = await self._client.run(postgres_steps.get, run_id, payloads)
        return state

    async def find(self, wanted: RunFilter) -> list[RunState]:
        """See `RunStore.find`."""
        states: list[RunState] = await self._client.run(postgres_steps.find, wanted)
        return states

    async def events(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunEvent]:
        """See `RunStore.events`."""
        events: list[RunEvent] = await self._client.run(postgres_steps.events, run_id, after, limit)
        return events

    async def steps(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunStep]:
        """See `RunStore.steps`."""
        steps: list[RunStep] = await self._client.run(postgres_steps.steps, run_id, after, limit)
        return steps

    async def take(self, run_id: str) -> RunState | None:
        """See `RunStore.take`."""
        arguments = (run_id, self.executor, time.time(), self._listener.channel)
        state: RunState | None = await self._client.run(postgres_steps.take, *arguments)
        self._watchers.taken(run_id, is_taken=state is not None)
        return state

    async def question(self, run_id: str, number: int) -> RunQuestion | None:
        """See `RunStore.question`."""
        question: RunQuestion | None = await self._client.run(postgres_questions.get, run_id, number)
        return question

    async def questions(self, wanted: QuestionFilter) -> list[RunQuestion]:
        """See `RunStore.questions`."""
        found: list[RunQuestion] = await self._client.run(postgres_questions.find, wanted)
        return found

    async def close_question(self, run_id: str, number: int, closing: QuestionClosing) -> bool:
        """See `RunStore.close_question`."""
        arguments = (run_id, number, closing, self._listener.channel)
        return bool(await self._client.run(postgres_questions.close, *arguments))

    async def asked_permissions(self) -> list[str]:
        """See `RunStore.asked_permissions`."""
        audiences: list[str] = await self._client.run(postgres_questions.asked_permissions)
        return audiences

    async def request_cancel(self, run_id: str) -> bool:
        """See `RunStore.request_cancel`."""
        arguments = (run_id, time.time(), self._listener.channel)
        return bool(await self._client.run(postgres_steps.request_cancel, *arguments))

    def on_cancel(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See `RunStore.on_cancel`."""
        return self._watchers.on_cancel(listener)

    def watch(self, run_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """See `RunStore.watch`."""
        return self._watchers.watch(run_id, listener)

    async def renew(self, lease: float = LEASE_SECONDS) -> None:
        """See `RunStore.renew`."""
        await self._client.run(_renew, self.executor, lease)

    def renew_in_thread(self, lease: float = LEASE_SECONDS) -> None:
        """See `RunStore.renew_in_thread`. The thread has a separate event loop and connection."""
        self._rescuer = self._rescuer or Rescuer(self._client)
        try:
            self._rescuer.run(_renew, self.executor, lease)
        except Exception as exc:
            self.end_thread()
            self._client.log_failure(self._client.reason(exc))
            raise unavailable() from None

    def end_thread(self) -> None:
        """See `RunStore.end_thread`."""
        rescuer, self._rescuer = self._rescuer, None
        if rescuer is not None:
            rescuer.close()

    async def expired(self, limit: int = REAPED) -> list[RunState]:
        """See `RunStore.expired`."""
        states: list[RunState] = await self._client.run(postgres_steps.expired, self.executor, limit)
        return states

    async def prune(self, keep: RunRetention, *, limit: int = PRUNED, dry_run: bool = False) -> Pruned:
        """See `RunStore.prune`."""
        arguments = (keep, time.time(), limit, dry_run)
        pruned: Pruned = await self._client.run(postgres_steps.prune, *arguments, seconds=PRUNE_SECONDS)
        return pruned


async def _renew(connection: Any, executor: str, lease: float) -> None:
    await connection.execute(postgres_steps.RENEW, executor, lease)


async def _release(connection: Any, executor: str) -> None:
    await connection.execute("DELETE FROM executors WHERE id = $1", executor)
