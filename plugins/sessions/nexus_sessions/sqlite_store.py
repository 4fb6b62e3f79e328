"""`SqliteStore`: shared state in a file of one machine, for all of its processes. It survives restarts."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nexus_core.errors import BackendUnavailable, ConfigurationError
from nexus_sessions.sqlite_line import Line
from nexus_sessions.sqlite_scoped import DEFAULT_LIMITS, Limits, ScopedSqliteStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from nexus_core.state.limits import Kind
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

LOCK_SECONDS = 2.0
"""How long a step waits for locks of other processes."""

STEP_SECONDS = 3.0
"""How long anybody waits for a step, the ones before it included."""

QUIET_SECONDS = 60.0
"""How long after one complaint the next one with the same reason is logged at the earliest."""

PURGE_SECONDS = 60.0
"""How often what has expired is deleted, while there are changes."""

PURGED = 500
"""How many values are deleted at a time."""

FREE_BYTES = 1024 * 1024
"""Free space below which the next changes will find none."""

PROBE = b"\0probe"
"""The key that is written to see whether that works: no feature's begins so."""

Value = TypeVar("Value")

_GET = "SELECT value FROM entries WHERE key = ? AND ends > ?"
_SET = (
    "INSERT INTO entries (key, value, ends) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, ends = excluded.ends"
)
_REPLACE = "UPDATE entries SET value = ?, ends = ? WHERE key = ? AND value = ? AND ends > ?"
_DELETE = "DELETE FROM entries WHERE key = ? AND ends > ?"
_PURGE = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE ends <= ? LIMIT ?)"


class SqliteStore:
    """See `nexus_core.state.stores.Store`. The file is opened when it is first used.

    Args:
        path: The file.
        lock_seconds: How long a step waits for locks of other processes.
        clock: Returns the seconds since the epoch.
        limits: What one caller may have of each kind of state.
    """

    name = "sqlite"

    def __init__(
        self, path: Path, lock_seconds: float = LOCK_SECONDS, clock: Callable[[], float] = time.time,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:  # fmt: skip
        self._path = path
        self._clock = clock
        self._limits = limits
        self._lock_seconds = lock_seconds
        self._step_seconds = lock_seconds + STEP_SECONDS - LOCK_SECONDS
        self._reads = Line(self._connect, "nexus-sqlite-read")  # which never wait for writers
        self._writes = Line(self._connect, "nexus-sqlite-write")
        self._next_purge = 0.0
        self._told: dict[str, float] = {}

    def check(self) -> None:
        """Open the file, in the caller's thread, to see whether that works.

        Raises:
            ConfigurationError: It does not.
        """
        import sqlite3

        try:
            self._connect().close()
        except (OSError, sqlite3.Error) as exc:
            raise ConfigurationError(f"sqlite_path: {self._path} can't be used: {_reason(exc)}.") from None

    async def probe(self) -> dict[str, int]:
        """Write to the file, and return how many bytes are free beside it.

        Raises:
            BackendUnavailable: It can't be written to, or there is next to no room; the message is for operators.
        """
        import sqlite3

        try:
            free = await self._writes.take(self._probed, self._step_seconds)
        except TimeoutError:
            raise BackendUnavailable(f"{self._path}: it took longer than {self._step_seconds:g} s") from None
        except (OSError, sqlite3.Error) as exc:
            raise BackendUnavailable(f"{self._path}: {_reason(exc)}") from None
        if free < FREE_BYTES:
            raise BackendUnavailable(f"{self._path}: the disk is full, {free} bytes are left")
        return {"free_bytes": free}

    def _probed(self, connection: sqlite3.Connection) -> int:
        _set(PROBE, b"1", PURGE_SECONDS, connection, self._clock())
        return shutil.disk_usage(self._path).free

    async def close(self) -> None:
        """Close the file."""
        for line in (self._reads, self._writes):
            with suppress(TimeoutError):
                await line.close(self._step_seconds)

    def scoped(self, kind: Kind, owner: str) -> Store:
        """See `nexus_core.state.stores.BoundedStore.scoped`. What is evictable has no limit here but its time."""
        if kind.is_evictable:
            return self
        return ScopedSqliteStore(self, self._change, self._limits, kind, owner)

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return await self._take(self._reads, lambda connection: _get(_blob(key), connection, self._clock()))

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        await self._change(partial(_set, _blob(key), value, ttl))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`."""
        return await self._change(partial(_add, _blob(key), value, ttl))

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        return await self._change(partial(_replace, _blob(key), old, new, ttl))

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        return await self._change(partial(_delete, _blob(key), value))

    def _connect(self) -> sqlite3.Connection:
        from nexus_sessions.sqlite_file import open_file

        return open_file(self._path, self._lock_seconds)

    async def _change(self, step: Callable[[sqlite3.Connection, float], Value]) -> Value:
        return await self._take(self._writes, partial(self._changed, step))

    def _changed(self, step: Callable[[sqlite3.Connection, float], Value], connection: sqlite3.Connection) -> Value:
        """Take a step in the thread, and delete what has expired if it is time for that."""
        import sqlite3

        value = step(connection, self._clock())
        if time.monotonic() >= self._next_purge:
            with suppress(sqlite3.Error):  # the step itself is done
                purged = connection.execute(_PURGE, (self._clock(), PURGED)).rowcount
                self._next_purge = time.monotonic() + (0 if purged == PURGED else PURGE_SECONDS)
        return value

    async def _take(self, line: Line, step: Callable[[sqlite3.Connection], Value]) -> Value:
        import sqlite3

        try:
            return await line.take(step, self._step_seconds)
        except TimeoutError:
            self._complain(f"it took longer than {self._step_seconds:g} s")
        except (OSError, sqlite3.Error) as exc:
            self._complain(_reason(exc))
        raise BackendUnavailable("The store of shared state does not answer.", retry_after=1.0)

    def _complain(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._told.get(reason, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._told = {reason: now, **{old: told for old, told in self._told.items() if now - told < QUIET_SECONDS}}
            log.error("The store sqlite can't be used: %s: %s", self._path, reason)


def _get(key: bytes, connection: sqlite3.Connection, now: float) -> bytes | None:
    row = connection.execute(_GET, (key, now)).fetchone()
    return None if row is None else row[0]


def _set(key: bytes, value: bytes, ttl: float, connection: sqlite3.Connection, now: float) -> None:
    if ttl > 0:
        connection.execute(_SET, (key, value, now + ttl))
    else:
        _delete(key, None, connection, now)


def _add(key: bytes, value: bytes, ttl: float, connection: sqlite3.Connection, now: float) -> bytes | None:
    connection.execute("BEGIN IMMEDIATE")
    there = _get(key, connection, now)
    if there is None:
        _set(key, value, ttl, connection, now)
    connection.execute("COMMIT")
    return there


def _replace(key: bytes, old: bytes, new: bytes, ttl: float, connection: sqlite3.Connection, now: float) -> bool:
    if not ttl > 0:
        return _delete(key, old, connection, now)
    return connection.execute(_REPLACE, (new, now + ttl, key, old, now)).rowcount == 1


def _delete(key: bytes, value: bytes | None, connection: sqlite3.Connection, now: float) -> bool:
    if value is None:
        return connection.execute(_DELETE, (key, now)).rowcount == 1
    return connection.execute(f"{_DELETE} AND value = ?", (key, now, value)).rowcount == 1


def _blob(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _reason(exc: Exception) -> str:
    return exc.strerror or type(exc).__name__ if isinstance(exc, OSError) else str(exc)
