"""`SqliteStore`: shared state in a file, for all processes of one machine. It survives restarts."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nexus_toolkit.accounts import Account, CallerLimits, key_bytes
from nexus_toolkit.serial_executor import SerialExecutor

from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.errors import BackendUnavailable, ConfigurationError
from nexus_sessions.sqlite_scoped import GET, SET, ScopedSqliteStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from nexus_core.state.limits import Kind
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

LOCK_SECONDS = 2.0
"""Seconds that a step waits for locks of other processes."""

STEP_SECONDS = 3.0
"""Time limit for a step, including the steps before it, in seconds."""

QUIET_SECONDS = 60.0
"""Seconds between two log lines with the same reason."""

PURGE_SECONDS = 60.0
"""Seconds between two deletions of expired values, while there are writes."""

PURGED = 500
"""Number of expired values that are deleted at a time."""

FREE_BYTES = 1024 * 1024
"""Free space in bytes below which the disk counts as full."""

PROBE = b"\0probe"
"""Key of the health check's value; no feature's keys begin like this."""

Value = TypeVar("Value")

_REPLACE = "UPDATE entries SET value = ?, ends = ? WHERE key = ? AND value = ? AND ends > ?"
_DELETE = "DELETE FROM entries WHERE key = ? AND ends > ?"
_PURGE = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE ends <= ? LIMIT ?)"


class SqliteStore:
    """See `nexus_core.state.stores.Store`. The file is opened at first use.

    Args:
        path: The file.
        lock_seconds: Seconds that a step waits for locks of other processes.
        step_seconds: Time limit for a step, including the steps before it, in seconds.
        clock: Returns the seconds since the epoch.
        limits: What one caller may store of each kind of state.

    Attributes:
        path: The file.
    """

    name = "sqlite"

    def __init__(
        self, path: Path, lock_seconds: float = LOCK_SECONDS, clock: Callable[[], float] = time.time,
        limits: CallerLimits | None = None, step_seconds: float | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self._clock = clock
        self._limits = limits or CallerLimits()
        self._lock_seconds = lock_seconds
        self._step_seconds = step_seconds or lock_seconds + STEP_SECONDS - LOCK_SECONDS
        self._reader = SerialExecutor(self._connect, "nexus-sqlite-read")  # reads never wait for writers
        self._writer = SerialExecutor(self._connect, "nexus-sqlite-write")
        self._next_purge = 0.0
        self._failures = RateLimitedLog(log, QUIET_SECONDS)

    def check(self) -> None:
        """Open the file once, in the caller's thread.

        Raises:
            ConfigurationError: The file can't be used.
        """
        import sqlite3

        try:
            self._connect().close()
        except (OSError, sqlite3.Error) as exc:
            raise ConfigurationError(f"sqlite_path: {self.path} can't be used: {_reason(exc)}.") from None

    async def probe(self) -> dict[str, int]:
        """Write to the file, and return the free bytes of its disk.

        Raises:
            BackendUnavailable: The file can't be written, or the disk is full; the message is for operators.
        """
        import sqlite3

        try:
            free = await self._writer.run(self._write_probe, self._step_seconds)
        except TimeoutError:
            raise BackendUnavailable(f"{self.path}: it took longer than {self._step_seconds:g} s") from None
        except (OSError, sqlite3.Error) as exc:
            raise BackendUnavailable(f"{self.path}: {_reason(exc)}") from None
        if free < FREE_BYTES:
            raise BackendUnavailable(f"{self.path}: the disk is full, {free} bytes are left")
        return {"free_bytes": free}

    def _write_probe(self, connection: sqlite3.Connection) -> int:
        _set(PROBE, b"1", PURGE_SECONDS, connection, self._clock())
        return shutil.disk_usage(self.path).free

    async def close(self) -> None:
        """Close the file."""
        for executor in (self._reader, self._writer):
            with suppress(TimeoutError):
                await executor.close(self._step_seconds)

    def scoped(self, kind: Kind, owner: str) -> Store:
        """See `nexus_core.state.stores.BoundedStore.scoped`. Evictable values have no limit here, but they expire."""
        if kind.is_evictable:
            return self
        return ScopedSqliteStore(self, self._change, Account(self.name, self._limits, kind, owner))

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return await self._run(self._reader, lambda connection: _get(key_bytes(key), connection, self._clock()))

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Store.set`."""
        await self._change(partial(_set, key_bytes(key), value, ttl))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """See `Store.add`."""
        return await self._change(partial(_add, key_bytes(key), value, ttl))

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """See `Store.replace`."""
        return await self._change(partial(_replace, key_bytes(key), old, new, ttl))

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """See `Store.delete`."""
        return await self._change(partial(_delete, key_bytes(key), value))

    def _connect(self) -> sqlite3.Connection:
        from nexus_toolkit.sqlite_file import open_file

        from nexus_sessions.sqlite_file import LAYOUT

        return open_file(self.path, self._lock_seconds, LAYOUT)

    async def _change(self, step: Callable[[sqlite3.Connection, float], Value]) -> Value:
        return await self._run(self._writer, partial(self._changed, step))

    def _changed(self, step: Callable[[sqlite3.Connection, float], Value], connection: sqlite3.Connection) -> Value:
        """Run a step in the thread, and delete expired values if it is time for that."""
        import sqlite3

        value = step(connection, self._clock())
        if time.monotonic() >= self._next_purge:
            with suppress(sqlite3.Error):  # the step itself is done
                purged = connection.execute(_PURGE, (self._clock(), PURGED)).rowcount
                self._next_purge = time.monotonic() + (0 if purged == PURGED else PURGE_SECONDS)
        return value

    async def _run(self, executor: SerialExecutor, step: Callable[[sqlite3.Connection], Value]) -> Value:
        import sqlite3

        try:
            return await executor.run(step, self._step_seconds)
        except TimeoutError:
            self._log_failure(f"it took longer than {self._step_seconds:g} s")
        except (OSError, sqlite3.Error) as exc:
            self._log_failure(_reason(exc))
        raise BackendUnavailable("The store of shared state is unavailable.", retry_after=1.0)

    def _log_failure(self, reason: str) -> None:
        self._failures.log(logging.ERROR, reason, "The store sqlite can't be used: %s: %s", self.path, reason)


def _get(key: bytes, connection: sqlite3.Connection, now: float) -> bytes | None:
    row = connection.execute(GET, (key, now)).fetchone()
    return None if row is None else row[0]


def _set(key: bytes, value: bytes, ttl: float, connection: sqlite3.Connection, now: float) -> None:
    if ttl > 0:
        connection.execute(SET, (key, value, now + ttl))
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


def _reason(exc: Exception) -> str:
    return exc.strerror or type(exc).__name__ if isinstance(exc, OSError) else str(exc)
