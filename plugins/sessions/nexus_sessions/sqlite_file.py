"""The file of the store ``sqlite``: how it is opened, and its tables."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING

from nexus_sessions.sqlite_scoped import TABLES as ACCOUNTS

if TYPE_CHECKING:
    from pathlib import Path

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

WAL_BYTES = 4 * 1024 * 1024
"""Maximum size of the write-ahead log after a checkpoint."""

PAUSE_SECONDS = 0.01
"""Pause while another process changes the journal mode, for which SQLite itself does not wait."""


def open_file(path: Path, seconds: float) -> sqlite3.Connection:
    """Return a connection to the file. A missing file is created, with access for this user alone.

    Args:
        path: The file.
        seconds: Seconds to wait for locks of other processes, here and at each step.

    Raises:
        OSError, sqlite3.Error: The file can't be opened, or is not one of this store.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass  # not opened here: closing it would release the locks of this process's other connections
    connection = sqlite3.connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, seconds)
    except BaseException:
        connection.close()
        raise
    return connection


def is_busy(exc: Exception) -> bool:
    """Whether an error means that another connection has locked the file."""
    code = getattr(exc, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _prepare(connection: sqlite3.Connection, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            _check(connection)
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as exc:
            connection.rollback()
            if not is_busy(exc) or time.monotonic() > end:
                raise
            time.sleep(PAUSE_SECONDS)
    if mode != "wal":
        raise sqlite3.NotSupportedError("its file system does not support sharing between processes")
    connection.execute("PRAGMA synchronous = NORMAL")  # commits survive the process, not a power failure
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    is_new = _number(connection, "PRAGMA application_id") != APPLICATION
    if is_new or not _number(connection, "SELECT count(*) FROM sqlite_master WHERE name = 'entry_removed'"):
        connection.executescript(TABLES)  # a file from before callers had limits gets the missing ones


def _check(connection: sqlite3.Connection) -> None:
    """Refuse a file of another program or of a later version."""
    connection.execute("BEGIN")  # one snapshot: another process may be creating the tables
    application, version = (_number(connection, f"PRAGMA {name}") for name in ("application_id", "user_version"))
    tables = _number(connection, "SELECT count(*) FROM sqlite_master")
    connection.execute("COMMIT")
    if application == APPLICATION and version == VERSION:
        return
    if application == APPLICATION:
        raise sqlite3.NotSupportedError(f"it has version {version}, but this program supports version {VERSION}")
    if application or version or tables:
        raise sqlite3.NotSupportedError("it is the database of another program")


def _number(connection: sqlite3.Connection, query: str) -> int:
    (number,) = connection.execute(query).fetchone()
    return int(number)
