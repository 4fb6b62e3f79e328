"""The columns that the queue adds to DBOS's table of runs, their indexes, and the table of processes that work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

COLUMNS = {
    "nexus_workflow": "TEXT", "nexus_owner": "TEXT", "nexus_key": "TEXT", "nexus_priority": "INTEGER",
    "nexus_turn": "BIGINT", "nexus_version": "TEXT", "nexus_begun_version": "TEXT", "nexus_began_at": "BIGINT",
}  # fmt: skip
"""Columns of ``workflow_status``. They are in DBOS's table, so that one change of a row changes both.

- ``nexus_workflow``, ``nexus_owner``, ``nexus_key``, ``nexus_priority``: those of `Work`; the owner ``''`` stands for
  none. A row whose workflow is null was not queued by this code; `Claim.adopt` gives it to all processes.
- ``nexus_turn``: within a workflow and a priority, lower turns go first.
- ``nexus_version``: only a process that offers this version may take the run. Null: any that offers the workflow.
- ``nexus_begun_version``: the version that the process offered that took the run first. Null: none has.
- ``nexus_began_at``: when the run was last taken, in milliseconds since the epoch, where a rate is limited.
"""

INDEXES = {
    "nexus_turns": (
        "(status, nexus_workflow, nexus_priority, nexus_turn, created_at) WHERE status IN ('ENQUEUED', 'PENDING')"
    ),
    "nexus_last_turns": "(nexus_owner, nexus_workflow, nexus_priority, nexus_turn) WHERE status = 'ENQUEUED'",
    "nexus_blocked": "(nexus_workflow, nexus_version) WHERE status = 'ENQUEUED' AND nexus_version IS NOT NULL",
    "nexus_rates": "(nexus_workflow, nexus_began_at, nexus_key) WHERE nexus_began_at IS NOT NULL",
}
"""Partial indexes: they hold the runs that have not ended, and the runs that count for rates."""

WAITING = "status IN ('ENQUEUED', 'PENDING') AND status = 'ENQUEUED' AND nexus_workflow"
WORKING = "status IN ('ENQUEUED', 'PENDING') AND status = 'PENDING' AND nexus_workflow"
"""Conditions for the index ``nexus_turns``: SQLite uses one whose own condition is repeated."""

WORKERS = "executor TEXT PRIMARY KEY, offers TEXT NOT NULL, seen BIGINT NOT NULL"
"""Columns of ``nexus_workers``: the processes that work, what they offer as JSON, and when they last said so (ms)."""


class Tables:
    """The names of the tables, as SQL has them.

    Args:
        schema: The schema of PostgreSQL; None for SQLite.
    """

    def __init__(self, schema: str | None) -> None:
        self.schema = schema
        prefix = "" if schema is None else f'"{schema}".'
        self.runs, self.inputs = f"{prefix}workflow_status", f"{prefix}workflow_input"
        self.workers = f"{prefix}nexus_workers"

    def prepare(self, engine: Engine) -> None:
        """Add what is missing. DBOS's own tables must be there; other processes may do the same at this moment."""
        with engine.begin() as connection:
            if self.schema is None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver itself would begin at the first change
            else:
                lock = "SELECT pg_advisory_xact_lock(hashtext(%s))"
                connection.exec_driver_sql(lock, (f"nexus_dbos columns {self.schema}",))
            there = self._columns(connection)
            for name, kind in COLUMNS.items():
                if name not in there:  # asked first, since a change of a table waits for all that use it
                    connection.exec_driver_sql(f"ALTER TABLE {self.runs} ADD COLUMN {name} {kind}")
            for name, columns in INDEXES.items():
                connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {self.runs} {columns}")
            connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {self.workers} ({WORKERS})")

    def _columns(self, connection: Connection) -> set[str]:
        found: Any = sqlalchemy.inspect(connection).get_columns("workflow_status", schema=self.schema)
        return {each["name"] for each in found}
