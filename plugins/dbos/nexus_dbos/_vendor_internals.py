"""All use of internals of DBOS 3.4: the queue takes runs itself, and hands them to DBOS as DBOS's own queue does.

DBOS's queue has one limit per queue or one per partition, an order by priority and time alone, and a thread that can't
be woken. What it does with a run that it has taken is used as it is. A release with other internals must prevent the
start, since runs would be taken and not worked on.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.metadata import requires, version
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PARTS = {
    "dbos._core.execute_dequeued_workflow": "(dbos,status,owner_xid)",
    "dbos._sys_db.SystemDatabase.get_workflow_statuses": "(self,workflow_ids)",
    "dbos._context.current_owner_xid": "(workflow_id,ctx)",
    "dbos._migration.get_migration_versions": "(engine,schema,use_listen_notify)",
    "dbos._migration.get_sqlite_migration_versions": "(engine)",
    "dbos._serialization.serialize_args": "(args,kwargs,serialization_type,serializer)",
}
"""What is called, with its parameters."""

COLUMNS = {
    "workflow_uuid", "status", "name", "queue_name", "application_version", "application_name", "priority",
    "recovery_attempts", "serialization", "creator_xid", "owner_xid", "executor_id", "created_at", "updated_at",
    "started_at_epoch_ms",
}  # fmt: skip
"""Columns of DBOS's table of runs that are written."""


def check() -> None:
    """Check that DBOS has every function of `PARTS` and every column of `COLUMNS`.

    Raises:
        ConfigurationError: It does not; the message names the version that does.
    """
    from dbos._schemas.system_database import SystemSchema

    missing = [name for name, parameters in PARTS.items() if not _has(name, parameters)]
    missing += sorted(COLUMNS - set(SystemSchema.workflow_status.columns.keys()))
    if missing:
        needs = [each for each in requires("nexus-hub-dbos") or () if each.startswith("dbos")]
        raise ConfigurationError(
            f"dbos {version('dbos')} does not have what the plugin dbos expects ({missing[0]}): install {needs[0]}."
        )


def _has(name: str, parameters: str) -> bool:
    module, _, path = name.partition("._")
    first, *rest = path.split(".")
    try:
        part: Any = import_module(f"{module}._{first}")
        for each in rest:
            part = getattr(part, each)
        return f"({','.join(inspect.signature(part).parameters)})" == parameters
    except (ImportError, AttributeError, TypeError):
        return False


def serialized(serializer: Any, *arguments: Any) -> tuple[str, str]:
    """Return arguments of a workflow as DBOS stores them, and the name of their format."""
    from dbos._serialization import serialize_args

    inputs, serialization = serialize_args(arguments, {}, None, serializer)
    return inputs, serialization


def token_of(run_id: str) -> str:
    """Return, in the workflow of a run, the token with which it was taken."""
    from dbos._context import current_owner_xid

    return current_owner_xid(run_id) or ""


def newest_migration(system: Any) -> tuple[int, int]:
    """Return the version of a database, and the newest one that this release of DBOS knows.

    Args:
        system: DBOS's system database.
    """
    from dbos._migration import get_migration_versions, get_sqlite_migration_versions

    if system.engine.dialect.name == "sqlite":
        return get_sqlite_migration_versions(system.engine)
    return get_migration_versions(system.engine, system.schema, system.use_listen_notify)


def dispatch(
    dbos: Any, run_ids: Sequence[str], token: str, begins: Callable[[Mapping[str, Any]], None],
    fails: Callable[[str, Exception], None],
) -> None:  # fmt: skip
    """Let DBOS work on runs that were marked as taken with a token.

    Args:
        dbos: The launched DBOS.
        run_ids: The runs.
        token: The ``owner_xid`` of their rows.
        begins: Called with the row of each before it begins.
        fails: Called with a run that can't begin, and the reason.
    """
    from dbos._core import execute_dequeued_workflow

    found = {status["workflow_uuid"]: status for status in dbos._sys_db.get_workflow_statuses(list(run_ids))}
    for run_id in run_ids:
        try:
            status = found[run_id]
            begins(status)
            execute_dequeued_workflow(dbos, status, token)
        except Exception as exc:
            fails(run_id, exc)
