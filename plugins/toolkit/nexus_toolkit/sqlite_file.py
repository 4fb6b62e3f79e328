"""`open_file`: an SQLite file that several processes share, made and recognised by its application id and version."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAL_BYTES = 4 * 1024 * 1024
"""Maximum size of the write-ahead log after a checkpoint."""

PAUSE_SECONDS = 0.01
"""Pause while another process changes the journal mode, for which SQLite itself does not wait."""


class SqliteLayout(NamedTuple):
    """What a file holds.

    Attributes:
        application: SQLite's application id of the file.
        version: The version of its tables that this program knows. Files of later ones are refused.
        prepare: Makes the tables of a connection's file if they are missing or of an earlier version.
    """

    application: int
    version: int
    prepare: Callable[[sqlite3.Connection], None]


def open_file(path: Path, seconds: float, layout: SqliteLayout) -> sqlite3.Connection:
    """Return a connection to a file. A missing file is created, with access for this user alone.

    Args:
        path: The file.
        seconds: Seconds to wait for locks of other processes, here and at each step.
        layout: What it holds.

    Raises:
        OSError, sqlite3.Error: The file can't be opened, or has another layout.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass  # not opened here: closing it would release the locks of this process's other connections
    connection = sqlite3.connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, seconds, layout)
    except BaseException:
        connection.close()
        raise
    return connection


def is_busy(exc: Exception) -> bool:
    """Whether an error means that another connection has locked the file."""
    code = getattr(exc, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return the number that a pragma has."""
    return number(connection, f"PRAGMA {name}")


def number(connection: sqlite3.Connection, query: str) -> int:
    """Return the number that a query has as its only row."""
    (found,) = connection.execute(query).fetchone()
    return int(found)


def _prepare(connection: sqlite3.Connection, seconds: float, layout: SqliteLayout) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            _check(connection, layout)
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
    layout.prepare(connection)


def _check(connection: sqlite3.Connection, layout: SqliteLayout) -> None:
    """Refuse a file of another program or of a later version."""
    connection.execute("BEGIN")  # one snapshot: another process may be creating the tables
    application, version = pragma(connection, "application_id"), pragma(connection, "user_version")
    tables = number(connection, "SELECT count(*) FROM sqlite_master")
    connection.execute("COMMIT")
    if application == layout.application and 0 < version <= layout.version:
        return
    if application == layout.application:
        supported = f"this program supports version {layout.version}"
        raise sqlite3.NotSupportedError(f"it has version {version}, but {supported}")
    if application or version or tables:
        raise sqlite3.NotSupportedError("it is the database of another program")
