"""The tables of the run store ``postgres``, and how they are made and brought up to date."""

from __future__ import annotations

from typing import Any

from nexus_core.errors import ConfigurationError

LOCK = 0x4E657872
"""Key of the advisory lock under which one process at a time changes the tables."""

PRUNE_LOCK = LOCK + 1
"""Key of the advisory lock under which one process at a time prunes."""

MIGRATIONS = (
    """
    CREATE TABLE runs (
        n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE,
        accepted_at double precision NOT NULL, workflow text COLLATE "C" NOT NULL,
        channel text COLLATE "C" NOT NULL, owner text COLLATE "C",
        status text COLLATE "C" NOT NULL, executor text COLLATE "C", attempt integer NOT NULL,
        started_at double precision, finished_at double precision, cancel_at double precision,
        duration double precision, last_event integer NOT NULL, size bigint NOT NULL, params_size bigint NOT NULL,
        result_size bigint NOT NULL, problem bytea, details bytea NOT NULL, params bytea, result bytea
    );
    CREATE INDEX runs_by_status ON runs (status, channel, accepted_at, id);
    CREATE INDEX runs_by_owner ON runs (owner, status, channel, accepted_at, id) WHERE owner IS NOT NULL;
    CREATE INDEX runs_by_workflow ON runs (workflow, status, channel, accepted_at, id);
    CREATE INDEX runs_by_both ON runs (owner, workflow, status, channel, accepted_at, id) WHERE owner IS NOT NULL;
    CREATE INDEX runs_by_end_of_id ON runs (right(id, 8));
    CREATE INDEX runs_going_on ON runs (executor) WHERE finished_at IS NULL;
    CREATE INDEX runs_to_cancel ON runs (executor) WHERE cancel_at IS NOT NULL AND finished_at IS NULL;
    CREATE INDEX runs_by_end ON runs (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX runs_of_workflow_by_end ON runs (workflow, finished_at) WHERE finished_at IS NOT NULL;
    CREATE TABLE events (
        run bigint NOT NULL, number integer NOT NULL, body bytea NOT NULL, PRIMARY KEY (run, number)
    );
    CREATE TABLE steps (run bigint NOT NULL, number integer NOT NULL, body bytea NOT NULL, PRIMARY KEY (run, number));
    CREATE TABLE executors (
        id text COLLATE "C" PRIMARY KEY, since double precision NOT NULL, lease double precision NOT NULL,
        ends double precision NOT NULL
    );
    CREATE TABLE usage (
        workflow text COLLATE "C" NOT NULL, shard integer NOT NULL, runs bigint NOT NULL, bytes bigint NOT NULL,
        PRIMARY KEY (workflow, shard)
    );
    """,
    """
    ALTER TABLE runs ADD COLUMN asked integer NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN is_taken boolean NOT NULL DEFAULT false;
    CREATE TABLE questions (
        run bigint NOT NULL, number integer NOT NULL, run_id text COLLATE "C" NOT NULL,
        asked_at double precision NOT NULL, audience text COLLATE "C" NOT NULL, status text COLLATE "C" NOT NULL,
        closed_at double precision, answered_by text, answer bytea, body bytea NOT NULL, PRIMARY KEY (run, number)
    );
    CREATE INDEX questions_open ON questions (audience, asked_at, run_id, number) WHERE status = 'open';
    CREATE INDEX questions_open_by_time ON questions (asked_at, run_id, number) WHERE status = 'open';
    """,
)
"""The scripts that make each version of the tables of the one before."""


async def prepare(connection: Any, schema: str) -> None:
    """Make the tables, or bring those of an earlier version up to date. Other processes wait meanwhile.

    Args:
        connection: A connection whose search path is the schema.
        schema: Name of the schema.

    Raises:
        ConfigurationError: They are those of a later version.
    """
    if await _version(connection, schema) == len(MIGRATIONS):
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        await connection.execute(f"CREATE TABLE IF NOT EXISTS {schema}.layout (version integer NOT NULL)")
        version = await _version(connection, schema)
        if version > len(MIGRATIONS):
            raise ConfigurationError(
                f"The schema {schema} in PostgreSQL has version {version} of the tables of runs, but this program "
                f"supports version {len(MIGRATIONS)}: upgrade nexus-hub-runs, or set runs_postgres_schema."
            )
        for script in MIGRATIONS[version:]:
            await connection.execute(script)
        if version < len(MIGRATIONS):
            await connection.execute(f"DELETE FROM {schema}.layout")
            await connection.execute(f"INSERT INTO {schema}.layout VALUES ($1)", len(MIGRATIONS))


async def _version(connection: Any, schema: str) -> int:
    if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.layout") is None:
        return 0
    return int(await connection.fetchval(f"SELECT coalesce(max(version), 0) FROM {schema}.layout"))
