"""`SqliteRunStore`: runs in a file, for all processes of one machine."""

from __future__ import annotations

import errno
import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_toolkit.serial_executor import SerialExecutor

from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.errors import BackendUnavailable, ConfigurationError
from nexus_core.runs.store import LEASE_SECONDS, PRUNED, REAPED, RunStore
from nexus_runs.change_queue import ChangeQueue, unavailable
from nexus_runs.rows import joined, split_whole
from nexus_runs.sqlite_watch import FileLook, FilePoller
from nexus_runs.watchers import Watchers

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from nexus_core.runs.question import QuestionClosing, QuestionFilter, RunQuestion
    from nexus_core.runs.record import RunChange, RunEvent, RunFilter, RunState, RunStep, Written
    from nexus_core.runs.retention import Pruned, RunRetention
    from nexus_runs.sqlite_watch import Seen

log = logging.getLogger(__name__)

LOCK_SECONDS = 2.0
"""Seconds that a step waits for locks of other processes."""

STEP_SECONDS = 5.0
"""Time limit for a step, including the steps before it, in seconds."""

PRUNE_SECONDS = 30.0
"""Time limit for a pass of pruning."""

QUIET_SECONDS = 60.0
"""Seconds between two log lines with the same reason."""

FREE_BYTES = 1024 * 1024
"""Free space in bytes below which the disk counts as full."""

Value = TypeVar("Value")


class SqliteRunStore(RunStore):
    """See `RunStore`. All processes of one machine may use the file at the same time; network file systems won't do.

    Reads go through one connection, writes through another: readers never wait for writers. A third one
    detects what other processes write.

    Args:
        path: The file.
        max_waiting: How many changes that may be late wait at most while the file can't be written.
        max_waiting_bytes: How many bytes of them.
        lock_seconds: Seconds that a step waits for locks of other processes.

    Attributes:
        path: The file.
    """

    name = "sqlite"
    is_shared = True

    def __init__(
        self, path: Path, max_waiting: int = 10_000, max_waiting_bytes: int = 32 * 1024 * 1024,
        lock_seconds: float = LOCK_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__()
        self.path = path
        self._lock_seconds = lock_seconds
        self._reader, self._writer, self._watcher = (
            SerialExecutor(self._connect, f"nexus-runs-{name}") for name in ("read", "write", "watch")
        )
        self._rescuer: sqlite3.Connection | None = None
        self._failures = RateLimitedLog(log, QUIET_SECONDS)
        self._watchers = Watchers(self._wake)
        self._queue = ChangeQueue(self.name, self._apply, self._applied, max_waiting, max_waiting_bytes)
        self._look = FileLook("")
        self._poller = FilePoller(self._watchers, self._look_once)

    def _connect(self) -> sqlite3.Connection:
        from nexus_toolkit.sqlite_file import open_file

        from nexus_runs.sqlite_schema import LAYOUT

        return open_file(self.path, self._lock_seconds, LAYOUT)

    async def open(self, executor: str) -> None:
        """See `RunStore.open`."""
        import sqlite3

        self.executor = executor
        self._queue.is_open = True
        self._look = FileLook(executor)
        try:
            await self._renew(LEASE_SECONDS)
        except (OSError, sqlite3.Error) as exc:
            if not _is_passing(exc):
                raise ConfigurationError(f"runs_sqlite_path: {self.path} can't be used: {_reason(exc)}.") from None
            self._log_failure(_reason(exc))
        _warn_of_other_readers(self.path)
        self._wake()

    async def close(self) -> None:
        """See `RunStore.close`."""
        from nexus_runs import sqlite_steps

        await self._queue.close()
        await self._poller.close()  # what is written last wakes it
        try:
            await self._writer.run(partial(sqlite_steps.release, executor=self.executor), STEP_SECONDS)
        except Exception as exc:
            log.debug("The lease could not be given up", exc_info=exc)
        self.executor = ""
        for each in (self._reader, self._writer, self._watcher):
            try:
                await each.close(STEP_SECONDS)
            except Exception as exc:
                log.debug("A connection could not be closed", exc_info=exc)

    async def check(self) -> dict[str, Any]:
        """See `RunStore.check`."""
        from nexus_runs import sqlite_steps

        step = partial(sqlite_steps.check, executor=self.executor, now=time.time(), path=self.path)
        details = await self._explained(self._writer.run(step, STEP_SECONDS))
        if details["free_bytes"] < FREE_BYTES:
            raise BackendUnavailable(f"{self.path}: the disk is full, {details['free_bytes']} bytes are left")
        return details | self.statistics()

    def statistics(self) -> dict[str, int]:
        """See `RunStore.statistics`."""
        return {"waiting": self._queue.waiting, "dropped": self._queue.dropped}

    async def write(self, changes: Sequence[RunChange]) -> list[Written]:
        """See `RunStore.write`."""
        return await self._queue.write(changes)

    def write_later(self, change: RunChange) -> None:
        """See `RunStore.write_later`."""
        self._queue.write_later(change)

    async def _apply(self, changes: Sequence[RunChange], is_awaited: bool) -> list[Written]:
        from nexus_runs import sqlite_steps

        whole, others = split_whole(changes)
        if not (is_awaited or others):
            insertion = self._writer.run(sqlite_steps.insertion(whole), STEP_SECONDS, lends_lock=True)
            if await self._guarded(insertion):
                return joined(changes, whole, [])
        step = partial(sqlite_steps.write, changes=changes, is_awaited=is_awaited)
        return await self._run(self._writer, step)

    def _applied(self, changes: Sequence[RunChange], written: Sequence[Written]) -> None:
        self._watchers.applied(self.executor, changes, written)

    async def get(self, run_id: str, *, payloads: bool = True) -> RunState | None:
        """See `RunStore.get`."""
        if not run_id.isprintable():  # no run has such an id, and not every one can be looked up
            return None
        from nexus_runs import sqlite_steps

        return await self._run(self._reader, partial(sqlite_steps.get, run_id=run_id, payloads=payloads))

    async def find(self, wanted: RunFilter) -> list[RunState]:
        """See `RunStore.find`."""
        from nexus_runs import sqlite_steps

        return await self._run(self._reader, partial(sqlite_steps.find, wanted=wanted))

    async def events(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunEvent]:
        """See `RunStore.events`."""
        from nexus_runs import sqlite_steps

        return await self._run(self._reader, partial(sqlite_steps.events, run_id=run_id, after=after, limit=limit))

    async def steps(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunStep]:
        """See `RunStore.steps`."""
        from nexus_runs import sqlite_steps

        return await self._run(self._reader, partial(sqlite_steps.steps, run_id=run_id, after=after, limit=limit))

    async def take(self, run_id: str) -> RunState | None:
        """See `RunStore.take`."""
        from nexus_runs import sqlite_steps

        step = partial(sqlite_steps.take, run_id=run_id, executor=self.executor, now=time.time())
        state = await self._run(self._writer, step)
        self._watchers.taken(run_id, is_taken=state is not None)
        return state

    async def question(self, run_id: str, number: int) -> RunQuestion | None:
        """See `RunStore.question`."""
        from nexus_runs import sqlite_questions

        return await self._run(self._reader, partial(sqlite_questions.get, run_id=run_id, number=number))

    async def questions(self, wanted: QuestionFilter) -> list[RunQuestion]:
        """See `RunStore.questions`."""
        from nexus_runs import sqlite_questions

        return await self._run(self._reader, partial(sqlite_questions.find, wanted=wanted))

    async def close_question(self, run_id: str, number: int, closing: QuestionClosing) -> bool:
        """See `RunStore.close_question`."""
        from nexus_runs import sqlite_questions

        step = partial(sqlite_questions.close, run_id=run_id, number=number, closing=closing)
        is_closed = await self._run(self._writer, step)
        self._watchers.notify([run_id])
        return is_closed

    async def asked_permissions(self) -> list[str]:
        """See `RunStore.asked_permissions`."""
        from nexus_runs import sqlite_questions

        return await self._run(self._reader, sqlite_questions.asked_permissions)

    async def request_cancel(self, run_id: str) -> bool:
        """See `RunStore.request_cancel`."""
        from nexus_runs import sqlite_steps

        step = partial(sqlite_steps.request_cancel, run_id=run_id, now=time.time())
        goes_on = await self._run(self._writer, step)
        if goes_on:
            self._watchers.notify([run_id])
            if run_id in self._watchers.active:
                self._watchers.cancel([run_id])
        return goes_on

    def on_cancel(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See `RunStore.on_cancel`."""
        return self._watchers.on_cancel(listener)

    def watch(self, run_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """See `RunStore.watch`."""
        return self._watchers.watch(run_id, listener)

    async def renew(self, lease: float = LEASE_SECONDS) -> None:
        """See `RunStore.renew`."""
        await self._guarded(self._renew(lease))

    async def _renew(self, lease: float) -> None:
        from nexus_runs.sqlite_steps import RENEW

        arguments = (self.executor, time.time(), lease)
        await self._writer.run(lambda connection: connection.execute(RENEW, arguments).close(), STEP_SECONDS)

    def renew_in_thread(self, lease: float = LEASE_SECONDS) -> None:
        """See `RunStore.renew_in_thread`."""
        import sqlite3

        from nexus_runs.sqlite_steps import RENEW

        try:
            self._rescuer = self._rescuer or self._connect()
            self._rescuer.execute(RENEW, (self.executor, time.time(), lease)).close()
        except (OSError, sqlite3.Error) as exc:
            self.end_thread()
            self._log_failure(_reason(exc))
            raise unavailable() from None

    def end_thread(self) -> None:
        """See `RunStore.end_thread`."""
        rescuer, self._rescuer = self._rescuer, None
        if rescuer is not None:
            rescuer.close()

    async def expired(self, limit: int = REAPED) -> list[RunState]:
        """See `RunStore.expired`."""
        from nexus_runs import sqlite_steps

        step = partial(sqlite_steps.expired, executor=self.executor, now=time.time(), limit=limit)
        return await self._run(self._reader, step)

    async def prune(self, keep: RunRetention, *, limit: int = PRUNED, dry_run: bool = False) -> Pruned:
        """See `RunStore.prune`."""
        from nexus_runs import sqlite_steps

        step = partial(sqlite_steps.prune, keep=keep, now=time.time(), limit=limit, dry_run=dry_run)
        return await self._guarded(self._writer.run(step, PRUNE_SECONDS))

    def _wake(self) -> None:
        if self.executor:
            self._poller.wake()

    async def _look_once(self, runs: Sequence[str], is_fresh: bool) -> Seen | None:
        return await self._run(self._watcher, partial(self._look, runs=runs, is_fresh=is_fresh))

    async def _run(self, executor: SerialExecutor, step: Callable[[sqlite3.Connection], Value]) -> Value:
        return await self._guarded(executor.run(step, STEP_SECONDS))

    async def _guarded(self, work: Awaitable[Value]) -> Value:
        try:
            return await self._explained(work)
        except BackendUnavailable as exc:
            self._log_failure(exc.message)
            raise unavailable() from None

    async def _explained(self, work: Awaitable[Value]) -> Value:
        """Return what the work returns.

        Raises:
            BackendUnavailable: The file can't be used; the message is for operators.
        """
        import sqlite3

        try:
            return await work
        except (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
            raise  # it is the value's fault, not the file's
        except TimeoutError:
            raise BackendUnavailable(f"{self.path}: it took longer than {STEP_SECONDS:g} s") from None
        except (OSError, sqlite3.Error) as exc:
            raise BackendUnavailable(f"{self.path}: {_reason(exc)}") from None

    def _log_failure(self, reason: str) -> None:
        self._failures.log(logging.ERROR, reason, "The run store sqlite can't be used: %s", reason)


def _warn_of_other_readers(path: Path) -> None:
    """Log that others have access to a file that was there before: one that is created is for this user alone."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        return
    if mode & 0o077 and os.name == "posix":
        log.warning("%s holds parameters and results, and others have access to it (%o): chmod 600", path, mode)


def _is_passing(exc: Exception) -> bool:
    """Whether the file may become usable without an operator: a lock, a full disk, a slow disk."""
    import sqlite3

    if isinstance(exc, TimeoutError):
        return True
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    passing = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return code in passing or (isinstance(exc, OSError) and exc.errno == errno.ENOSPC)


def _reason(exc: Exception) -> str:
    return exc.strerror or type(exc).__name__ if isinstance(exc, OSError) else str(exc)
