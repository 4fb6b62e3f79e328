"""The file of the store ``sqlite``: its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_toolkit.sqlite_file import SqliteLayout, number, pragma

from nexus_sessions.sqlite_scoped import TABLES as ACCOUNTS

if TYPE_CHECKING:
    import sqlite3

APPLICATION = 0x4E657875
"""SQLite's application id of the file: "Nexu"."""

VERSION = 1
"""The version of the tables."""

TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL, ends REAL NOT NULL);
CREATE INDEX IF NOT EXISTS entries_by_end ON entries (ends);
{ACCOUNTS}
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file, and the missing ones of a file from before callers had limits."""
    is_new = pragma(connection, "application_id") != APPLICATION
    if is_new or not number(connection, "SELECT count(*) FROM sqlite_master WHERE name = 'entry_removed'"):
        connection.executescript(TABLES)


LAYOUT = SqliteLayout(APPLICATION, VERSION, prepare)
