"""`queue_run`: a run's row in DBOS's table, with its turn in the queue."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from nexus_dbos.claim import now_of
from nexus_dbos.queue_columns import WAITING, WORKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from nexus_core.runs.work import Work
    from nexus_dbos.queue_columns import Tables

COLUMNS = (
    "workflow_uuid", "status", "name", "queue_name", "application_version", "application_name", "priority",
    "recovery_attempts", "serialization", "creator_xid", "created_at", "updated_at", "nexus_workflow", "nexus_owner",
    "nexus_key", "nexus_priority", "nexus_turn",
)  # fmt: skip

LONGEST = 200
"""Characters of an owner or key that are stored as they are: PostgreSQL's indexes do not take any length."""


def queue_run(connection: Connection, tables: Tables, work: Work, columns: dict[str, Any], inputs: str) -> bool:
    """Queue a run, and return whether it was not known before.

    Its turn is behind the last one that its owner waits for, but not behind those of other owners: an owner who waits
    for many has the latest turns alone, and others come in between.

    Args:
        connection: A transaction. The run is queued when it is committed.
        tables: The names of the tables.
        work: The run.
        columns: What DBOS expects: ``name``, ``queue_name``, ``application_version``, ``application_name`` and
            ``serialization``.
        inputs: The arguments of DBOS's workflow, serialized.
    """
    is_file = tables.schema is None
    values = {
        **columns, "workflow_uuid": work.run_id, "status": "ENQUEUED", "priority": 0, "recovery_attempts": 0,
        "creator_xid": str(uuid.uuid4()), "nexus_workflow": work.workflow, "nexus_owner": _short(work.owner or ""),
        "nexus_key": None if work.key is None else _short(work.key), "nexus_priority": work.priority, "inputs": inputs,
    }  # fmt: skip
    same = "= :nexus_workflow AND nexus_priority = :nexus_priority"
    read = f"SELECT nexus_turn FROM {tables.runs} WHERE"
    turns = (
        f"{read} {WORKING} {same} ORDER BY nexus_turn DESC LIMIT 1",
        f"SELECT nexus_turn - 1 FROM {tables.runs} WHERE {WAITING} {same} ORDER BY nexus_turn LIMIT 1",
        f"{read} status = 'ENQUEUED' AND nexus_owner = :nexus_owner AND nexus_workflow {same} "
        "ORDER BY nexus_turn DESC LIMIT 1",
    )
    latest = ", ".join(f"COALESCE(({each}), 0)" for each in turns)
    turn = f"1 + {'max' if is_file else 'greatest'}({latest})"
    if is_file:
        values["now"] = now_of(tables, connection)
    now = ":now" if is_file else "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
    special = {"nexus_turn": turn, "created_at": now, "updated_at": now}
    row = ", ".join(special.get(name, f":{name}") for name in COLUMNS)
    added = f"INSERT INTO {tables.runs} ({', '.join(COLUMNS)}) VALUES ({row}) ON CONFLICT DO NOTHING"
    if is_file:
        if not connection.execute(text(added), values).rowcount:
            return False
        task = text(f"INSERT INTO {tables.inputs} (workflow_uuid, inputs) VALUES (:workflow_uuid, :inputs)")
        connection.execute(task, values)
        return True
    both = text(
        f"WITH added AS ({added} RETURNING workflow_uuid) INSERT INTO {tables.inputs} (workflow_uuid, inputs) "
        "SELECT workflow_uuid, :inputs FROM added"
    )
    return bool(connection.execute(both, values).rowcount)


def _short(text: str) -> str:
    if len(text) <= LONGEST and "\0" not in text:
        return text
    return "sha256:" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
