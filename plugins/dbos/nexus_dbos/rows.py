"""`Rows`: the runs in DBOS's table, for what its library does not offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 500
"""Maximum ids in one query."""


class Rows:
    """What the run engine reads and changes in DBOS's table itself. All methods raise what SQLAlchemy raises.

    Args:
        system: DBOS's system database.
        queue: The queue of all durable runs.
    """

    def __init__(self, system: Any, queue: str) -> None:
        self._engine, self._table = system.engine, system.tables.workflow_status
        self._now = system._now_ms_sql  # times in the format of its tables
        self._queue = queue

    def executors(self) -> list[str]:
        """Return the processes that runs are at work in, by the table."""
        column = self._table.c.executor_id
        with self._engine.begin() as connection:
            found = connection.execute(sqlalchemy.select(column).where(*self._at("PENDING")).distinct())
            return [each for (each,) in found if each]

    def known(self, run_ids: Sequence[str]) -> set[str]:
        """Return the ids among these that have a row."""
        column, found = self._table.c.workflow_uuid, set()
        with self._engine.begin() as connection:
            for start in range(0, len(run_ids), CHUNK):
                chunk = run_ids[start : start + CHUNK]
                found.update(connection.execute(sqlalchemy.select(column).where(column.in_(chunk))).scalars())
        return found

    def queue_again(self, executor: str, *, run_id: str | None = None, counts: bool = True) -> int:
        """Queue the runs of a process again, and return how many.

        A run that another process has taken meanwhile has that one's id, and is left alone.

        Args:
            executor: The process. It has died, or has stopped to work.
            run_id: The only run of it that is queued again; None: all are.
            counts: Whether the attempt counts. It does not where a process was asked to stop.
        """
        table = self._table
        values = {
            "status": "ENQUEUED", "owner_xid": None, "started_at_epoch_ms": None, "updated_at": self._now(),
        }  # fmt: skip
        if not counts:
            values["recovery_attempts"] = table.c.recovery_attempts - 1
        change = table.update().where(*self._at("PENDING"), table.c.executor_id == executor).values(**values)
        if run_id is not None:
            change = change.where(table.c.workflow_uuid == run_id)
        with self._engine.begin() as connection:
            return int(connection.execute(change).rowcount)

    def _at(self, status: str) -> tuple[Any, ...]:
        return self._table.c.status == status, self._table.c.queue_name == self._queue
