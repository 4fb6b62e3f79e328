"""`WorkerProcesses`: runs functions that compute in separate processes, which a time limit really ends."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.threads import is_async
from nexus_core.concurrency.turns import Turns
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from nexus_core.concurrency.threads import DaemonThreads


class WorkerProcesses:
    """At most ``limit`` processes, each of which runs one call at a time. They are started when they are needed.

    Args:
        threads: Where they are waited for.
        limit: How many; None for one for each CPU.
    """

    def __init__(self, threads: DaemonThreads, limit: int | None) -> None:
        self._threads = threads
        self._turns = Turns(limit or os.cpu_count() or 1)
        self._idle: list[_WorkerProcess] = []
        self._busy: set[_WorkerProcess] = set()

    async def run(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function in a process and return its value. When the wait is cancelled, the process is killed.

        Raises:
            RuntimeError: The process has ended, or what goes in or comes out can't be pickled.
        """
        if not self._turns.take_now():
            await self._turns.take()
        worker = self._take()
        self._busy.add(worker)
        try:
            return await self._threads.run(None, worker.call, function, args, kwargs)
        except BaseException:
            if not worker.is_ready:
                worker.kill()
            raise
        finally:
            self._busy.discard(worker)
            if worker.is_ready:
                self._idle.append(worker)
            self._turns.give_back()

    def _take(self) -> _WorkerProcess:
        """Return a worker that nobody else has. One whose process has ended while it had nothing to do is left out."""
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                worker.is_ready = False  # from now on, not from when its thread begins: its caller may leave before
                return worker
        return _WorkerProcess()

    def close(self) -> None:
        """End every process."""
        idle, self._idle = self._idle, []
        for worker in (*idle, *self._busy):
            worker.kill()


class _WorkerProcess:
    """One process.

    Attributes:
        is_ready: Whether it has answered its latest call, and can take another.
    """

    def __init__(self) -> None:
        self.is_ready = False
        self._process: Any = None
        self._connection: Connection | None = None
        self._is_killed = False
        self._started_in = 0
        self._lock = threading.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether its process runs, and is this one's: after a fork, the child must not talk to its parent's."""
        return self._process is not None and self._started_in == os.getpid() and self._process.is_alive()

    def call(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Let the process call a function, and wait for its value."""
        try:
            request = pickle.dumps((function, args, kwargs))
        except Exception as exc:
            self.is_ready = self._connection is not None
            raise RuntimeError(f"the call can't be sent to a process: {exc}") from exc
        connection = self._started()
        try:
            connection.send_bytes(request)
            succeeded, value = pickle.loads(connection.recv_bytes())  # noqa: S301  (its own process wrote it)
        except (EOFError, OSError):
            self._process.join(1)
            raise RuntimeError(f"the process ended with exit code {self._process.exitcode}") from None
        self.is_ready = True
        if succeeded:
            return value
        raise value

    def _started(self) -> Connection:
        with self._lock:
            if self._connection is None and not self._is_killed:
                import multiprocessing

                context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
                connection, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), name="nexus-worker", daemon=True)
                process.start()
                theirs.close()
                self._process, self._connection, self._started_in = process, connection, os.getpid()
            if self._connection is None or self._is_killed:
                self.kill()  # it was told to, while the process started
                raise RuntimeError("the call was cancelled before its process had started")
            return self._connection

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._is_killed = True
        self.is_ready = False
        if self._process is not None and self._started_in == os.getpid():
            self._process.kill()


def _ignore(_: asyncio.Future[Any]) -> None:
    """The thread ends with its process."""


def check(name: str, function: Callable[..., Any], *, streams: bool, takes_context: bool) -> None:
    """Make sure that a function can run in another process.

    Raises:
        ConfigurationError: It can't; the message says why.
    """
    why = ""
    if is_async(function):
        why = "it is async"
    elif streams:
        why = "it is a stream"
    elif takes_context:
        why = "it takes a Context"
    else:
        qualified = getattr(function, "__qualname__", "")
        if not getattr(function, "__module__", None) or not qualified or "<" in qualified:
            why = "only a function of a module, found there under its own name, can be pickled"
    if why:
        raise ConfigurationError(f"{name}: metadata['process'] can't be True: {why}.")


# In the process


def _serve(connection: Connection) -> None:
    """Answer calls, until there is nobody to answer."""
    # A terminal sends SIGINT to all processes; the platform ends its own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # stdout may be a protocol's
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a process that is killed flushes nothing
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(_answer(request))


def _answer(request: bytes) -> bytes:
    try:
        function, args, kwargs = pickle.loads(request)  # noqa: S301  (the platform wrote it)
        return pickle.dumps((True, function(*args, **kwargs)))
    except BaseException as exc:
        trace = "".join(traceback.format_exception(exc))
        if isinstance(exc, Exception):
            exc.add_note(f"In the process:\n{trace}")
            with suppress(Exception):
                answer = pickle.dumps((False, exc))
                pickle.loads(answer)  # noqa: S301  (its class may need other arguments)
                return answer
        return pickle.dumps((False, RuntimeError(f"{type(exc).__name__}: {exc}\nIn the process:\n{trace}")))


def _end_with_parent() -> None:
    from multiprocessing import connection, parent_process

    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def is_loading_main() -> bool:
    """Whether this is a new process that only loads the program, to find its functions."""
    found = sys.modules.get("multiprocessing.process")
    return found is not None and getattr(found.current_process(), "_inheriting", False)
