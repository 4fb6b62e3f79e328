"""The tables of the file of the run store ``sqlite``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_toolkit.sqlite_file import SqliteLayout, pragma

if TYPE_CHECKING:
    import sqlite3

APPLICATION = 0x4E657872
"""SQLite's application id of the file: "Nexr"."""

CACHE_KIB = 16 * 1024
"""Memory for pages of the file, for each connection."""

MIGRATIONS = (
    """
    CREATE TABLE runs (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, accepted_at REAL NOT NULL,
        workflow TEXT NOT NULL, channel TEXT NOT NULL, owner TEXT, status TEXT NOT NULL, executor TEXT,
        attempt INTEGER NOT NULL, started_at REAL, finished_at REAL, cancel_at REAL, duration REAL,
        last_event INTEGER NOT NULL, size INTEGER NOT NULL, params_size INTEGER NOT NULL, result_size INTEGER NOT NULL,
        problem BLOB, details BLOB NOT NULL, params BLOB, result BLOB
    );
    CREATE INDEX runs_by_status ON runs (status, channel, accepted_at, id);
    CREATE INDEX runs_by_owner ON runs (owner, status, channel, accepted_at, id) WHERE owner IS NOT NULL;
    CREATE INDEX runs_by_workflow ON runs (workflow, status, channel, accepted_at, id);
    CREATE INDEX runs_by_both ON runs (owner, workflow, status, channel, accepted_at, id) WHERE owner IS NOT NULL;
    CREATE INDEX runs_by_end_of_id ON runs (n >> 12, substr(id, -8));
    CREATE INDEX runs_going_on ON runs (executor) WHERE finished_at IS NULL;
    CREATE INDEX runs_to_cancel ON runs (executor) WHERE cancel_at IS NOT NULL AND finished_at IS NULL;
    CREATE INDEX runs_by_end ON runs (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX runs_of_workflow_by_end ON runs (workflow, finished_at) WHERE finished_at IS NOT NULL;
    CREATE TABLE payloads (run INTEGER NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (run, kind));
    CREATE TABLE events (
        run INTEGER NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (run, number)
    ) WITHOUT ROWID;
    CREATE TABLE steps (
        run INTEGER NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (run, number)
    ) WITHOUT ROWID;
    CREATE TABLE executors (
        id TEXT PRIMARY KEY, since REAL NOT NULL, lease REAL NOT NULL, ends REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE usage (
        workflow TEXT PRIMARY KEY, runs INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TRIGGER run_added AFTER INSERT ON runs BEGIN
        INSERT INTO usage VALUES (new.workflow, 1, new.size)
            ON CONFLICT (workflow) DO UPDATE SET runs = runs + 1, bytes = bytes + new.size;
    END;
    CREATE TRIGGER run_grown AFTER UPDATE OF size ON runs WHEN new.size <> old.size BEGIN
        UPDATE usage SET bytes = bytes + new.size - old.size WHERE workflow = new.workflow;
    END;
    CREATE TRIGGER run_removed AFTER DELETE ON runs BEGIN
        UPDATE usage SET runs = runs - 1, bytes = bytes - old.size WHERE workflow = old.workflow;
    END;
    """,
    """
    ALTER TABLE runs ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN closings INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN is_taken INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE questions (
        run INTEGER NOT NULL, number INTEGER NOT NULL, run_id TEXT NOT NULL, asked_at REAL NOT NULL,
        audience TEXT NOT NULL, status TEXT NOT NULL, closed_at REAL, answered_by TEXT, answer BLOB, body BLOB NOT NULL,
        PRIMARY KEY (run, number)
    ) WITHOUT ROWID;
    CREATE INDEX questions_open ON questions (audience, asked_at, run_id, number) WHERE status = 'open';
    CREATE INDEX questions_open_by_time ON questions (asked_at, run_id, number) WHERE status = 'open';
    """,
)
"""The scripts that make each version of the tables of the one before."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an earlier version up to date."""
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    if pragma(connection, "user_version") == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")  # the other processes wait
    version = pragma(connection, "user_version")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute("COMMIT")


def _statements(script: str) -> list[str]:
    """Return the statements of a script; `executescript` would end the transaction."""
    import sqlite3

    statements, statement = [], ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements


LAYOUT = SqliteLayout(APPLICATION, len(MIGRATIONS), prepare)
