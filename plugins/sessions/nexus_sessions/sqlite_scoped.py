"""`ScopedSqliteStore`: the store in a file as one caller writes to it, with limits that all processes share.

Triggers in the file maintain the number and size of each account's values, whichever process writes, deletes or purges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nexus_toolkit.accounts import Account, key_bytes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

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

GET = "SELECT value FROM entries WHERE key = ? AND ends > ?"
SET = (
    "INSERT INTO entries (key, value, ends) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, ends = excluded.ends"
)
_DELETE = "DELETE FROM entries WHERE key = ?"
_CHARGE = "SELECT size, account FROM charges WHERE key = ?"
_HELD = "SELECT entries, bytes FROM accounts WHERE account = ?"
_PURGE = "DELETE FROM entries WHERE ends <= ? AND key IN (SELECT key FROM charges WHERE account = ?)"
_ADD = "INSERT OR IGNORE INTO charges (key, account, size) VALUES (?, ?, ?)"


class WriteResult(NamedTuple):
    """The outcome of a write.

    Attributes:
        existing: The value before it.
        is_done: Whether the new value has been written.
        exceeded: The limit that forbids it, ``entries`` or ``bytes``, or None.
    """

    existing: bytes | None
    is_done: bool
    exceeded: str | None = None


@dataclass(frozen=True, slots=True)
class AccountedWrite:
    """A step that writes a value on a caller's account."""

    account: Account
    key: bytes
    value: bytes
    ttl: float
    condition: Callable[[bytes | None], bool]

    def __call__(self, connection: sqlite3.Connection, now: float) -> WriteResult:
        """Write in a transaction, if the existing value meets the condition and the limits allow it."""
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute(GET, (self.key, now)).fetchone()
        existing = None if row is None else row[0]
        is_due = self.condition(existing)
        exceeded = self._exceeded(connection, now) if is_due and self.ttl > 0 else None
        if is_due and exceeded is None:
            self._write(connection, now)
        connection.execute("COMMIT")
        return WriteResult(existing, is_due and exceeded is None, exceeded)

    def _write(self, connection: sqlite3.Connection, now: float) -> None:
        if self.ttl > 0:
            connection.execute(SET, (self.key, self.value, now + self.ttl))
            connection.execute(_ADD, (self.key, self.account.id, len(self.key) + len(self.value)))
        else:
            connection.execute(_DELETE, (self.key,))

    def _exceeded(self, connection: sqlite3.Connection, now: float) -> str | None:
        """Return the exceeded limit, after deleting expired values."""
        if (exceeded := self._check(connection)) is None:
            return None
        connection.execute(_PURGE, (now, self.account.id))
        return self._check(connection) and exceeded

    def _check(self, connection: sqlite3.Connection) -> str | None:
        size, account = connection.execute(_CHARGE, (self.key,)).fetchone() or (0, self.account.id)
        growth = len(self.key) + len(self.value) - size
        if growth <= 0:
            return None
        entries, total = connection.execute(_HELD, (account,)).fetchone() or (0, 0)
        if not size and entries >= self.account.limits.entries:
            return "entries"
        return "bytes" if total + growth > self.account.limits.bytes else None


class ScopedSqliteStore:
    """See `nexus_core.state.stores.BoundedStore.scoped`.

    Args:
        store: The store.
        write: Runs a writing step of the store.
        account: The caller's account.
    """

    name = "sqlite"

    def __init__(
        self, store: Store, write: Callable[[AccountedWrite], Awaitable[WriteResult]], account: Account
    ) -> None:
        self._store = store
        self._write = write
        self._account = account

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return await self._store.get(key)

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        await self._written(key, value, ttl, lambda existing: True)

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`."""
        return (await self._written(key, value, ttl, lambda existing: existing is None)).existing

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        return (await self._written(key, new, ttl, lambda existing: existing == old)).is_done

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        return await self._store.delete(key, value)

    async def _written(self, key: str, value: bytes, ttl: float, condition: Callable[..., bool]) -> WriteResult:
        result = await self._write(AccountedWrite(self._account, key_bytes(key), value, ttl, condition))
        if result.exceeded is not None:
            raise self._account.limit_reached(result.exceeded)
        return result
