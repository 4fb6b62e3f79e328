"""`Database`: the database of the run engine: a file of SQLite, or a schema of PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    import sqlalchemy

LOCK_SECONDS = 10
"""Seconds to wait for locks of other processes in SQLite."""

CONNECT = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""How libpq notices that a server is gone."""

PLANS = "SET jit = off; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"
"""How PostgreSQL is to plan: with the indexes that are made for the queries, in their order. Its statistics are of the
last minutes, and a queue is another one by then: a queue of 100,000 runs would be sorted for each run that is taken."""

PAUSE_SECONDS = 0.01
"""Pause while another process changes the journal mode, for which SQLite itself does not wait."""


class Database(NamedTuple):
    """Where the run engine keeps its work.

    Attributes:
        file: The file of SQLite.
        url: The URL of PostgreSQL. None: the file is used.
        schema: The schema of PostgreSQL.
    """

    file: Path
    url: str | None = None
    schema: str = "nexus_dbos"

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgres``."""
        return "sqlite" if self.url is None else "postgres"

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"the schema {self.schema} (dbos_postgres_schema)" if self.url else f"{self.file} (dbos_sqlite_path)"

    def prepare(self) -> None:
        """Make the file, with access for this user alone, if it is missing.

        Raises:
            OSError, sqlite3.Error: It can't be made or used.
        """
        if self.url is not None:
            return
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            pass  # not opened here: closing it would release the locks of this process's other connections
        connection = sqlite3.connect(self.file, timeout=LOCK_SECONDS)
        try:
            end = time.monotonic() + LOCK_SECONDS
            while not _is_shared(connection, end):
                time.sleep(PAUSE_SECONDS)
        finally:
            connection.close()

    def engine(self, *, syncs: bool, connections: int = 4) -> sqlalchemy.Engine:
        """Return an engine of SQLAlchemy for it.

        Args:
            connections: How many connections to PostgreSQL are kept open. A few more are opened when they are needed.
            syncs: Whether its commits in SQLite survive a power failure. All survive the end of the process.
        """
        import sqlalchemy

        url = self.url
        if url is not None:
            # No ping before each use: who gets a connection that is lost tries again.
            return sqlalchemy.create_engine(
                "postgresql+psycopg://", creator=lambda: connect(url), pool_size=connections, max_overflow=5,
                pool_timeout=5,
            )  # fmt: skip
        engine = sqlalchemy.create_engine(f"sqlite:///{self.file}", pool_timeout=LOCK_SECONDS)

        @sqlalchemy.event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = "IMMEDIATE"  # writers wait for each other at the beginning, not halfway
            connection.execute(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA synchronous = {'FULL' if syncs else 'NORMAL'}")

        return engine


def connect(url: str, *, autocommit: bool = False) -> Any:
    """Return a connection to PostgreSQL that notices when its server is gone, and plans as `PLANS` says."""
    import psycopg

    connection = psycopg.connect(url, autocommit=True, **CONNECT)  # type: ignore[arg-type]
    connection.execute(PLANS)
    connection.autocommit = autocommit
    return connection


def _is_shared(connection: sqlite3.Connection, end: float) -> bool:
    """Let readers and a writer use the file at once. False while another process does the same."""
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > end:
            raise
        return False
    if mode != "wal":
        raise sqlite3.NotSupportedError("its file system does not support sharing between processes")
    return True
