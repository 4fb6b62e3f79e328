"""`Standing`: where waiting runs stand, why they wait, and which no process can work on."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import text

from nexus_core.runs.work import WaitReason, WorkPosition
from nexus_dbos.claim import ANY, Room, now_of, waiting_workflows
from nexus_dbos.numbers import NONE, Numbers
from nexus_dbos.queue_columns import WAITING

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

    from nexus_core.runs.work import Offer
    from nexus_dbos.queue_columns import Tables
    from nexus_dbos.workers import Workers

PACE = 50.0
"""Counting takes at most this fraction of the time: with 100,000 waiting runs, it is done every few seconds."""


class Standing:
    """What can be said about waiting runs. All methods raise what SQLAlchemy raises.

    Attributes:
        numbers: What `count` has last counted.
    """

    def __init__(self, tables: Tables, engine: Engine, workers: Workers, queue: str) -> None:
        self._tables, self._engine, self._workers, self._queue = tables, engine, workers, queue
        self.numbers, self._took, self._counted_at = NONE, 0.0, 0.0

    def look(self) -> None:
        """Count, unless that takes so long that it is not yet time to do it again."""
        if time.monotonic() - self._counted_at > PACE * self._took:
            self.count()

    def count(self) -> Numbers:
        """Count the waiting runs, and return the numbers."""
        begin = time.monotonic()
        self.numbers = self._count()
        self._counted_at = time.monotonic()
        self._took = self._counted_at - begin
        return self.numbers

    def _count(self) -> Numbers:
        with self._engine.begin() as connection:
            queued, oldest = connection.execute(
                text(
                    f"SELECT count(*), min(created_at) FROM {self._tables.runs} "
                    "WHERE queue_name = :queue AND status IN ('ENQUEUED', 'PENDING') AND status = 'ENQUEUED'"
                ),
                {"queue": self._queue},
            ).one()
            living = self._workers.living(connection)
            waited = 0.0 if oldest is None else max(0.0, (now_of(self._tables, connection) - oldest) / 1000)
            return Numbers(queued, waited, len(living), self._unserved(connection, living) if queued else {})

    def unserved(self) -> dict[str, int]:
        """Return how many runs wait that no living process can work on, by the names of their workflows."""
        with self._engine.begin() as connection:
            return self._unserved(connection, self._workers.living(connection))

    def position(self, run_id: str) -> WorkPosition | None:
        """Return where a run stands among those of its workflow; None if it does not wait."""
        with self._engine.begin() as connection:
            query = text(
                "SELECT nexus_workflow, nexus_key, nexus_priority, nexus_turn, nexus_version, created_at "
                f"FROM {self._tables.runs} WHERE workflow_uuid = :run_id AND status = 'ENQUEUED'"
            )
            row = connection.execute(query, {"run_id": run_id}).one_or_none()
            if row is None:
                return None
            if row.nexus_workflow is None:
                return WorkPosition(0, WaitReason.TURN)
            return WorkPosition(self._before(connection, row), self._reason(connection, row))

    def _before(self, connection: Connection, row: Row[tuple[object, ...]]) -> int:
        query = text(
            f"SELECT count(*) FROM {self._tables.runs} WHERE {WAITING} = :nexus_workflow "
            "AND (nexus_priority, nexus_turn, created_at) < (:nexus_priority, :nexus_turn, :created_at)"
        )
        return int(connection.execute(query, dict(row._mapping)).scalar_one())

    def _reason(self, connection: Connection, row: Row[tuple[object, ...]]) -> WaitReason:
        name, key = row.nexus_workflow, row.nexus_key
        living = self._workers.living(connection)
        offers = [each[name] for each in living if name in each]
        if name == ANY:
            return WaitReason.TURN if living else WaitReason.NO_WORKER
        if not offers:
            return WaitReason.NO_WORKER
        if row.nexus_version is not None:
            offers = [each for each in offers if each.version == row.nexus_version]
            if not offers:
                return WaitReason.VERSION
        room = Room(self._tables, connection, {name: offers[0].limits}, now_of(self._tables, connection))
        if not room.for_concurrency(name):
            return WaitReason.CONCURRENCY
        if not room.for_rate(name):
            return WaitReason.RATE
        if key is not None and not room.for_key_concurrency(name, key):
            return WaitReason.KEY_CONCURRENCY
        if key is not None and not room.for_key_rate(name, key):
            return WaitReason.KEY_RATE
        return WaitReason.TURN

    def _unserved(self, connection: Connection, living: list[dict[str, Offer]]) -> dict[str, int]:
        versions = {
            name: {each[name].version for each in living if name in each} for offers in living for name in offers
        }
        counted: Counter[str] = Counter()
        for name in waiting_workflows(self._tables, connection):
            if name not in versions and not (name == ANY and living):
                query = text(f"SELECT count(*) FROM {self._tables.runs} WHERE {WAITING} = :name")
                counted[name] += connection.execute(query, {"name": name}).scalar_one()
        blocked = text(
            f"SELECT nexus_workflow, nexus_version, count(*) FROM {self._tables.runs} "
            "WHERE status = 'ENQUEUED' AND nexus_version IS NOT NULL GROUP BY nexus_workflow, nexus_version"
        )
        for name, version, count in connection.execute(blocked):
            if name in versions and version not in versions[name]:
                counted[name] += count
        return dict(counted)
