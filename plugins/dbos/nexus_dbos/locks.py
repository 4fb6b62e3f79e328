"""`Locks`: what a process holds as long as it lives, and the system takes from it when it dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
from typing import TYPE_CHECKING, Any, Protocol

from nexus_dbos.place import CONNECT

if TYPE_CHECKING:
    from pathlib import Path

    from nexus_dbos.place import Database


class Locks(Protocol):
    """One lock per process, and the way to see that another process has lost its own. Used by one thread at a time."""

    def hold(self, executor: str) -> None:
        """Hold the lock of this process. After an error, this may be called again."""

    def take(self, executor: str) -> bool:
        """Take the lock of another process. False: it lives, or another one has taken its lock at this moment."""

    def give_back(self, executor: str) -> None:
        """Release a lock that was taken."""

    def are_lost_since(self, seconds: float) -> bool:
        """Whether all processes have lost their locks in the last ``seconds``, and living processes may lock again."""

    def release(self) -> None:
        """Let go of the lock of this process."""


def locks_of(place: Database) -> Locks:
    """Return the locks for a database."""
    if place.url is not None:
        return PostgresLocks(place.url, place.schema)
    return FileLocks(place.file.with_name(place.file.name + ".locks"))


class PostgresLocks:
    """Advisory locks: the server frees them with the connection."""

    def __init__(self, url: str, schema: str) -> None:
        self._url, self._schema = url, schema
        self._connection: Any = None

    def hold(self, executor: str) -> None:
        """Connect, and hold the lock of this process."""
        import psycopg

        self.release()
        self._connection = psycopg.connect(self._url, autocommit=True, **CONNECT)  # type: ignore[arg-type]
        self._connection.execute("SELECT pg_advisory_lock(%s)", (self._key(executor),))

    def take(self, executor: str) -> bool:
        """Take the lock of another process."""
        (taken,) = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key(executor),)).fetchone()
        return bool(taken)

    def give_back(self, executor: str) -> None:
        """Release a lock that was taken."""
        self._connection.execute("SELECT pg_advisory_unlock(%s)", (self._key(executor),))

    def are_lost_since(self, seconds: float) -> bool:
        """Whether the server has started in the last ``seconds``."""
        query = "SELECT clock_timestamp() - pg_postmaster_start_time() < make_interval(secs => %s)"
        (is_new,) = self._connection.execute(query, (seconds,)).fetchone()
        return bool(is_new)

    def release(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _key(self, executor: str) -> int:
        digest = hashlib.sha256(f"{self._schema}/{executor}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


class FileLocks:
    """A locked file per process: the kernel frees it. Processes that this one forks do not hold it with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: tuple[int, Path] | None = None
        self._taken: dict[str, int] = {}

    def hold(self, executor: str) -> None:
        """Make and lock the file of this process."""
        if self._own is not None:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(executor)
        number = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._own = number, path

    def take(self, executor: str) -> bool:
        """Lock the file of another process. A file that is missing was removed by what took over, or released."""
        try:
            number = os.open(self._path(executor), os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(number)
            return False
        self._taken[executor] = number
        return True

    def give_back(self, executor: str) -> None:
        """Remove the file: ids of processes are not used again."""
        number = self._taken.pop(executor, None)
        if number is not None:
            self._path(executor).unlink(missing_ok=True)
            os.close(number)

    def are_lost_since(self, seconds: float) -> bool:
        """Return False: the kernel takes locks only from processes that have died."""
        return False

    def release(self) -> None:
        """Remove the file of this process."""
        if self._own is not None:
            number, path = self._own
            path.unlink(missing_ok=True)
            os.close(number)
            self._own = None

    def _path(self, executor: str) -> Path:
        return self._folder / hashlib.sha256(executor.encode()).hexdigest()[:32]
