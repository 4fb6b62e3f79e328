"""`LineWriter`: writes lines in a background thread, so that logging never waits for a disk or a reader."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import stat
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError
from nexus_core.concurrency.threads import call_on

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

LINES = 10_000
"""Lines that may be queued; further ones are dropped and counted."""

BATCH = 1000
"""Lines in one write, at most."""

GATHER_SECONDS = 0.05
"""Seconds for which lines are collected before a write: each write wakes a thread, which delays the event loop."""

RETRY_SECONDS = 1.0
"""Seconds between retries after a failure."""

CLOSE_SECONDS = 2.0
"""Time limit for writing the queue at shutdown."""

STREAMS = {"stdout": 1, "stderr": 2}


class LineWriter:
    """Writes to a file, which is reopened after it has been moved (rotated), or to a standard stream.

    Args:
        target: A path, ``stdout`` or ``stderr``.
        option: The option that names the target, for messages.
        report: Called with a message when writing fails, and when it works again.

    Attributes:
        dropped: The number of dropped lines.
        is_failing: Whether the last write has failed.

    Raises:
        ConfigurationError: The file can't be written.
    """

    def __init__(self, target: str, option: str, report: Callable[[str], None]) -> None:
        self._target = target
        self._option = option
        self._report = report
        self._descriptor = STREAMS[target] if target in STREAMS else self._open()
        self.dropped = 0
        self.is_failing = False
        self._lines: deque[bytes] = deque()
        self._begun, self._begun_lines = b"", 0
        self._put = self._written = 0
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._news = threading.Event()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_child = False
        if hasattr(os, "register_at_fork"):
            forked = weakref.WeakMethod(self._forked)
            os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    @property
    def backlog(self) -> int:
        """The number of queued lines."""
        return len(self._lines)

    def _forked(self) -> None:
        """Write directly in a forked process, such as one of `multiprocessing`: it does not have the thread."""
        self._is_child = True
        self._lines.clear()  # the parent writes them

    def put(self, line: bytes) -> None:
        """Queue a line without its line break, from any thread. It blocks in a forked process only."""
        if self._is_child:
            with suppress(OSError):
                os.write(self._descriptor, line + b"\n")
            return
        if len(self._lines) >= LINES:
            self.dropped += 1
            if self.dropped == 1:
                self._report(f"{self._option}: lines are dropped: they come faster than they can be written")
            return
        self._lines.append(line)
        self._put += 1
        if not self._news.is_set():
            self._is_idle.clear()
            self._news.set()
            if self._thread is None:
                self._start()

    async def written(self) -> None:
        """Wait until every queued line is written. Call it on an event loop.

        Raises:
            TimeoutError: It takes longer than `CLOSE_SECONDS`.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._put, asyncio.get_running_loop(), future))
        self._news.set()
        async with asyncio.timeout(CLOSE_SECONDS):
            await future

    def flush(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait, in a thread, until everything is written."""
        if not self._is_child:
            self._is_idle.wait(seconds)

    def close(self) -> None:
        """Write the queue, for at most `CLOSE_SECONDS`, and close the file."""
        self._closing.set()
        thread = self._thread
        if thread is None:
            self._release()
            return
        self._news.set()
        thread.join(CLOSE_SECONDS)
        if self._lines:
            self._report(f"{self._option}: {len(self._lines)} lines could not be written")

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"nexus-{self._option}", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            self._news.wait()
            if not self._waiting:
                self._closing.wait(GATHER_SECONDS)
            self._news.clear()
            try:
                self._write_all()
            except OSError as exc:
                if self._fails(exc):
                    break
                continue
            self._recovers()
            if not (self._lines or self._news.is_set()):
                self._is_idle.set()
            if self._closing.is_set() and not self._lines:
                break
        self._release()

    def _write_all(self) -> None:
        self._reopen_if_moved()
        while self._begun or self._lines:
            if not self._begun:
                self._begun_lines = min(len(self._lines), BATCH)
                self._begun = b"".join(self._lines[place] + b"\n" for place in range(self._begun_lines))
            while self._begun:
                self._begun = self._begun[self._write(self._begun) :]
            self._done(self._begun_lines)

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # whoever shares the stream has made it so
            select.select((), (self._descriptor,), (), RETRY_SECONDS)
            return 0

    def _done(self, count: int) -> None:
        for _ in range(count):
            self._lines.popleft()
        self._written += count
        for entry in [each for each in self._waiting if each[0] <= self._written]:
            self._waiting.remove(entry)
            _, loop, future = entry
            call_on(loop, _resolve, future)

    def _fails(self, exc: OSError) -> bool:
        """Note a failure, and wait a little. Returns whether it is time to give up."""
        if not self.is_failing:
            self.is_failing = True
            self._report(f"{self._option}: {self._target} can't be written: {exc.strerror}")
        self._news.set()
        return self._closing.is_set() or self._closing.wait(RETRY_SECONDS)

    def _recovers(self) -> None:
        if self.is_failing:
            self.is_failing = False
            self._report(f"{self._option}: {self._target} can be written again")

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            if os.path.exists(self._target) and stat.S_ISFIFO(os.stat(self._target).st_mode):
                flags |= os.O_NONBLOCK  # without a reader it would wait for one
            return os.open(self._target, flags, 0o600)
        except OSError as exc:
            raise ConfigurationError(f"{self._option}: {self._target} can't be written: {exc.strerror}.") from None

    def _reopen_if_moved(self) -> None:
        """Reopen the file if it has been moved, as log rotation does."""
        if self._target in STREAMS or self._begun:
            return
        try:
            there, ours = os.stat(self._target), os.fstat(self._descriptor)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        except FileNotFoundError:
            pass
        try:
            reopened = self._open()
        except ConfigurationError as exc:
            raise OSError(0, str(exc)) from None
        os.close(self._descriptor)
        self._descriptor = reopened

    def _release(self) -> None:
        if self._target not in STREAMS:
            os.close(self._descriptor)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
