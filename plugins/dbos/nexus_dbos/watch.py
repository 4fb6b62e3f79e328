"""`Watch`: whether runs wait, seen so cheaply that an idle process may ask often."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Protocol

from nexus_dbos.place import LOCK_SECONDS, connect
from nexus_dbos.queue_columns import WAITING

if TYPE_CHECKING:
    from nexus_dbos.place import Database
    from nexus_dbos.queue_columns import Tables


class Watch(Protocol):
    """Whether runs wait. Used by one thread at a time."""

    def waits(self) -> bool:
        """Return whether runs wait."""

    def close(self) -> None:
        """Close the connection."""


def watch_of(place: Database, tables: Tables) -> Watch:
    """Return what watches a database."""
    question = f"SELECT (SELECT 1 FROM {tables.runs} WHERE {WAITING} IS NOT NULL ORDER BY nexus_workflow LIMIT 1)"
    if place.url is None:
        return FileWatch(place, question)
    return PostgresWatch(place.url, question)


class PostgresWatch:
    """Asks over its own connection, without transactions: one round trip."""

    def __init__(self, url: str, question: str) -> None:
        self._url, self._question = url, question
        self._connection: Any = None

    def waits(self) -> bool:
        """Return whether runs wait."""
        try:
            if self._connection is None:
                self._connection = connect(self._url, autocommit=True)
            (waits,) = self._connection.execute(self._question, prepare=True).fetchone()
        except Exception:
            self.close()
            raise
        return bool(waits)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class FileWatch:
    """Asks only after a change of the file: SQLite counts the changes of others without reading the file's tables."""

    def __init__(self, place: Database, question: str) -> None:
        self._place, self._question = place, question
        self._connection: sqlite3.Connection | None = None
        self._seen, self._waits = -1, False

    def waits(self) -> bool:
        """Return whether runs wait."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._place.file, timeout=LOCK_SECONDS, check_same_thread=False)
        (now,) = self._connection.execute("PRAGMA data_version").fetchone()
        if now != self._seen:
            (waits,) = self._connection.execute(self._question).fetchone()
            self._seen, self._waits = now, bool(waits)
        return self._waits

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
