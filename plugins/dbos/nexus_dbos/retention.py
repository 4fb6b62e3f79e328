"""`Ended`: the runs that have ended, and what is removed of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_dbos.queue_columns import Tables

STATUSES = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
"""What DBOS calls runs that have ended."""

CHUNK = 100
"""Runs that are removed in one transaction: others write in between."""


class Ended:
    """Goes through the runs that have ended, and removes some. Used by one thread at a time.

    Args:
        system: DBOS's system database.
        tables: The names of the tables.
    """

    def __init__(self, system: Any, tables: Tables) -> None:
        self._engine, self._tables = system.engine, system.tables
        self._runs = tables.runs
        self._last: tuple[int, str] = (-1, "")

    def page(self, before: float, limit: int, workflows: Sequence[str]) -> list[str]:
        """Return the ids of runs of these workflows that ended before a time, in seconds since the epoch.

        Each call goes on behind the one before; the one after an incomplete page begins again with runs that ended
        first.
        """
        ended_at, run_id = self._last
        query = text(
            f"SELECT completed_at, workflow_uuid FROM {self._runs} WHERE completed_at IS NOT NULL "
            "AND completed_at >= :ended_at AND completed_at < :before AND nexus_workflow IN :workflows "
            "AND (completed_at > :ended_at OR workflow_uuid > :run_id) AND status IN :statuses "
            "ORDER BY completed_at, workflow_uuid LIMIT :limit"
        ).bindparams(
            sqlalchemy.bindparam("workflows", list(workflows), expanding=True),
            sqlalchemy.bindparam("statuses", STATUSES, expanding=True),
        )
        values = {"ended_at": ended_at, "run_id": run_id, "before": round(before * 1000), "limit": limit}
        with self._engine.begin() as connection:
            found = [(int(at), str(each)) for at, each in connection.execute(query, values)]
        self._last = found[-1] if len(found) == limit else (-1, "")
        return [each for _, each in found]

    def forget(self, run_ids: Sequence[str]) -> None:
        """Remove all that is stored of those among these runs that have ended."""
        tables = self._tables
        status = tables.workflow_status
        for start in range(0, len(run_ids), CHUNK):
            chunk = run_ids[start : start + CHUNK]
            ended = status.c.workflow_uuid.in_(chunk) & status.c.status.in_(STATUSES)
            with self._engine.begin() as connection:
                for table in (tables.operation_outputs, tables.workflow_input, tables.workflow_output):
                    gone = sqlalchemy.select(status.c.workflow_uuid).where(ended)
                    connection.execute(table.delete().where(table.c.workflow_uuid.in_(gone)))
                connection.execute(status.delete().where(ended))
