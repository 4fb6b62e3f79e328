"""`ScopedSqliteStore`: the store in a file as one caller writes to it, with limits that all processes share.

Triggers of the file keep for each caller and kind of state how many values it has and how large they are, whoever
writes, deletes or cleans up.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from nexus_core.state.limits import limit_reached

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    from nexus_core.state.limits import Kind
    from nexus_core.state.stores import Store

TABLES = """
CREATE TABLE IF NOT EXISTS charges (key BLOB PRIMARY KEY NOT NULL, account BLOB NOT NULL, size INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS charges_by_account ON charges (account);
CREATE TABLE IF NOT EXISTS accounts (
  account BLOB PRIMARY KEY NOT NULL, entries INTEGER NOT NULL, bytes INTEGER NOT NULL
);
CREATE TRIGGER IF NOT EXISTS charge_added AFTER INSERT ON charges BEGIN
  INSERT OR IGNORE INTO accounts (account, entries, bytes) VALUES (NEW.account, 0, 0);
  UPDATE accounts SET entries = entries + 1, bytes = bytes + NEW.size WHERE account = NEW.account;
END;
CREATE TRIGGER IF NOT EXISTS charge_changed AFTER UPDATE OF size ON charges BEGIN
  UPDATE accounts SET bytes = bytes + NEW.size - OLD.size WHERE account = NEW.account;
END;
CREATE TRIGGER IF NOT EXISTS charge_removed AFTER DELETE ON charges BEGIN
  UPDATE accounts SET entries = entries - 1, bytes = bytes - OLD.size WHERE account = OLD.account;
  DELETE FROM accounts WHERE account = OLD.account AND entries = 0;
END;
CREATE TRIGGER IF NOT EXISTS entry_changed AFTER UPDATE OF value ON entries BEGIN
  UPDATE charges SET size = length(NEW.key) + length(NEW.value) WHERE key = NEW.key;
END;
CREATE TRIGGER IF NOT EXISTS entry_removed AFTER DELETE ON entries BEGIN
  DELETE FROM charges WHERE key = OLD.key;
END;
"""

_GET = "SELECT value FROM entries WHERE key = ? AND ends > ?"
_SET = (
    "INSERT INTO entries (key, value, ends) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, ends = excluded.ends"
)
_DELETE = "DELETE FROM entries WHERE key = ?"
_CHARGE = "SELECT size, account FROM charges WHERE key = ?"
_HELD = "SELECT entries, bytes FROM accounts WHERE account = ?"
_PURGE = "DELETE FROM entries WHERE ends <= ? AND key IN (SELECT key FROM charges WHERE account = ?)"
_ADD = "INSERT OR IGNORE INTO charges (key, account, size) VALUES (?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may have of each kind of state.

    Attributes:
        entries: How many values.
        bytes: How many bytes of keys and values.
    """

    entries: int
    bytes: int


DEFAULT_LIMITS = Limits(1_000_000, 256 * 1024 * 1024)


class Written(NamedTuple):
    """What has become of a step that writes.

    Attributes:
        there: The value that was there.
        is_done: Whether the new one is there now.
        refused: The limit that forbids it, if one does.
    """

    there: bytes | None
    is_done: bool
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """A step that writes a value on somebody's account."""

    account: bytes
    limits: Limits
    key: bytes
    value: bytes
    ttl: float
    when: Callable[[bytes | None], bool]

    def __call__(self, connection: sqlite3.Connection, now: float) -> Written:
        """Take the step, in a transaction: write if what is there is as it must be, and the caller may have more."""
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute(_GET, (self.key, now)).fetchone()
        there = None if row is None else row[0]
        is_due = self.when(there)
        refused = self._refused(connection, now) if is_due and self.ttl > 0 else None
        if is_due and refused is None:
            self._write(connection, now)
        connection.execute("COMMIT")
        return Written(there, is_due and refused is None, refused)

    def _write(self, connection: sqlite3.Connection, now: float) -> None:
        if self.ttl > 0:
            connection.execute(_SET, (self.key, self.value, now + self.ttl))
            connection.execute(_ADD, (self.key, self.account, len(self.key) + len(self.value)))
        else:
            connection.execute(_DELETE, (self.key,))

    def _refused(self, connection: sqlite3.Connection, now: float) -> str | None:
        """Return the limit that is in the way, once what has expired is gone."""
        if (found := self._over(connection)) is None:
            return None
        connection.execute(_PURGE, (now, self.account))
        return self._over(connection) and found

    def _over(self, connection: sqlite3.Connection) -> str | None:
        size, account = connection.execute(_CHARGE, (self.key,)).fetchone() or (0, self.account)
        growth = len(self.key) + len(self.value) - size
        if growth <= 0:
            return None
        entries, total = connection.execute(_HELD, (account,)).fetchone() or (0, 0)
        if not size and entries >= self.limits.entries:
            return f"{self.limits.entries} (sqlite_caller_max_entries)"
        if total + growth > self.limits.bytes:
            return f"{self.limits.bytes} bytes (sqlite_caller_max_bytes)"
        return None


class ScopedSqliteStore:
    """See `nexus_core.state.stores.BoundedStore.scoped`.

    Args:
        store: The store.
        change: Takes a step of it that writes.
        limits: What the caller may have.
        kind: What is stored.
        owner: Who pays for it.
    """

    name = "sqlite"

    def __init__(
        self, store: Store, change: Callable[[Write], Awaitable[Written]], limits: Limits, kind: Kind, owner: str
    ) -> None:
        self._store = store
        self._change = change
        self._limits = limits
        self._kind = kind
        self._account = sha256(f"{kind.name} {owner}".encode("utf-8", "surrogatepass")).digest()[:16]

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return await self._store.get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        await self._written(key, value, ttl, lambda there: True)

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`."""
        return (await self._written(key, value, ttl, lambda there: there is None)).there

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        return (await self._written(key, new, ttl, lambda there: there == old)).is_done

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        return await self._store.delete(key, value)

    async def _written(self, key: str, value: bytes, ttl: float, when: Callable[[bytes | None], bool]) -> Written:
        blob = key.encode("utf-8", "surrogatepass")
        written = await self._change(Write(self._account, self._limits, blob, value, ttl, when))
        if written.refused is not None:
            raise limit_reached(self._kind, written.refused)
        return written
