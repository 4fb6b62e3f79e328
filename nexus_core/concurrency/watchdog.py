"""`Watchdog`: ends a process that was told to stop, whatever it does. `LoopWatch`: says what blocks an event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self

from nexus_core.concurrency.threads import call_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from nexus_core.concurrency.threads import DaemonThreads

log = logging.getLogger(__name__)

HANGUP: int | None = getattr(signal, "SIGHUP", None)

STOP_SIGNALS: tuple[int, ...] = tuple(each for each in (signal.SIGTERM, signal.SIGINT, HANGUP) if each is not None)
"""The signals that stop a process. A terminal that closes may send SIGHUP twice: it never counts as the second one."""

EXIT_FORCED = 70
"""The exit code of a process that did not stop in time (``EX_SOFTWARE``). A second signal's is 128 and its number."""

BLOCKED_SECONDS = 5.0
"""How long an event loop may be without a turn once the grace is over. Threads that compute delay it."""

NAMED_SECONDS = 2.0
"""How long it may be while a plugin starts or stops, before the log names what blocks it."""

STOP_SECONDS = 15.0
"""How long streams, channels and plugins may take to end, once the time for running work is over."""

THREAD_SECONDS = 2.0
"""How long threads that are not daemons may go on after everything else has ended."""

FAREWELL_SECONDS = 1.0
"""How long the last log lines may take."""

TICK = 0.1

CALLS_SHOWN = 4


class Watchdog:
    """A thread that takes the process's signals. The first asks for the stop, a second ends the process at once.

    The stop may take ``grace`` seconds for running work and `STOP_SECONDS` for the rest, and its event loop must not be
    blocked when that is over. Otherwise the process ends with exit code `EXIT_FORCED`. Outside of the main
    thread, which alone may take signals, it does nothing.

    Args:
        stop: Asks for the stop; called on the watchdog's thread.
        grace: Seconds for running work.
    """

    def __init__(self, stop: Callable[[], object], grace: float) -> None:
        self._stop = stop
        self._grace = grace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = time.monotonic()
        self._is_left = False
        self._is_stopping = False
        self._previous: dict[int, Any] = {}
        self._previous_wakeup = -1
        self._masks: dict[int, set[signal.Signals | int]] = {}

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note which event loop carries the platform."""
        self._loop = loop

    def __enter__(self) -> Self:
        """Take the signals."""
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            if number == HANGUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            self._previous[number] = signal.signal(number, self._handle)
        if hasattr(os, "register_at_fork"):
            before, forked = weakref.WeakMethod(self._before_fork), weakref.WeakMethod(self._after_fork)
            os.register_at_fork(
                before=lambda: (method := before()) and method(),
                after_in_parent=lambda: (method := forked()) and method(is_child=False),
                after_in_child=lambda: (method := forked()) and method(is_child=True),
            )
        threading.Thread(target=self._watch, name="nexus-watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back. After one has come, the next ends the process, and threads can't keep it for long."""
        if not self._previous:
            return
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if self._is_stopping else previous)
        self._previous.clear()
        if (current := signal.set_wakeup_fd(self._previous_wakeup)) != self._writer.fileno():
            signal.set_wakeup_fd(current)  # somebody else's since
        self._is_left = True
        self._send(0)

    def _handle(self, number: int, _: FrameType | None) -> None:
        """Pass a signal on where the interpreter has not done so itself: an event loop's own handlers replace that."""
        ours = self._writer.fileno()
        if (current := signal.set_wakeup_fd(ours, warn_on_full_buffer=False)) != ours:
            signal.set_wakeup_fd(current)
            self._send(number)

    def _send(self, number: int) -> None:
        try:
            self._writer.send(bytes([number]))
        except OSError:
            return  # full of signals: that is enough

    def _before_fork(self) -> None:
        """Hold the signals back for this thread: a new process must not take one as if it were for this platform."""
        if self._previous:
            self._masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, self._previous)

    def _after_fork(self, *, is_child: bool) -> None:
        """Let them come again, in a process that a workflow has forked without this platform's handlers."""
        mask = self._masks.pop(threading.get_ident(), None)
        if is_child and self._previous:
            signal.set_wakeup_fd(-1)
            for number in self._previous:
                signal.signal(number, signal.SIG_DFL)
            self._previous.clear()
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    # In the watchdog's thread

    def _watch(self) -> None:
        if self._next(None) is not None:
            self._is_stopping = True
            begin = self._turn = time.monotonic()
            farewell = _Farewell()
            self._stop()
            self._await_stop(begin + self._grace, farewell)
            farewell.outlive(begin + self._grace)
        self._reader.close()
        self._writer.close()

    def _await_stop(self, grace_end: float, farewell: _Farewell) -> None:
        while not self._is_left:
            if self._loop is not None:
                call_on(self._loop, self._note_turn)
            number = self._next(TICK)
            if number is not None and number != HANGUP:
                os._exit(128 + number)
            now = time.monotonic()
            if now - grace_end > BLOCKED_SECONDS and now - self._turn > BLOCKED_SECONDS:
                farewell.give_up("Ending the process: its event loop is blocked, in %s", where(threading.main_thread()))
            if now - grace_end > STOP_SECONDS:
                farewell.give_up("Ending the process: it did not stop within shutdown_grace and %g s", STOP_SECONDS)

    def _note_turn(self) -> None:
        self._turn = time.monotonic()

    def _next(self, seconds: float | None) -> int | None:
        """Return the next signal, or None where the time passes or the platform has ended first."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        return (self._reader.recv(1)[0] or None) if ready else None


class LoopWatch:
    """Says what blocks the event loop while something is awaited: ``with LoopWatch(what, threads) as watch: ...``.

    Args:
        what: What is awaited, for the log.
        threads: Where it watches.

    Attributes:
        longest: The longest time, in seconds, that the event loop was without a turn.
    """

    def __init__(self, what: str, threads: DaemonThreads) -> None:
        self._what = what
        self._threads = threads
        self._ended = threading.Event()
        self.longest = 0.0

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._loop, self._carrier = asyncio.get_running_loop(), threading.current_thread()
        self._turn = time.monotonic()
        with suppress(RuntimeError):  # no thread can be started, as at the interpreter's end
            self._threads.start(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._ended.set()
        self._note_turn()

    def _note_turn(self) -> None:
        now = time.monotonic()
        self.longest, self._turn = max(self.longest, now - self._turn), now

    def _watch(self) -> None:
        is_told = False
        while not self._ended.wait(TICK):
            call_on(self._loop, self._note_turn)
            if not is_told and time.monotonic() - self._turn > NAMED_SECONDS:
                is_told = True
                log.error("%s blocks the event loop, in %s", self._what, where(self._carrier))


def where(thread: threading.Thread) -> str:
    """Return what a thread does: its innermost calls, the last first."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "nothing"
    calls = reversed(traceback.extract_stack(frame)[-CALLS_SHOWN:])
    return ", called by ".join(f"{each.name} ({each.filename}:{each.lineno})" for each in calls)


class _Farewell:
    """A thread that says why the process ends, begun when it was told to stop: at the interpreter's end none can be."""

    def __init__(self) -> None:
        self._begin = threading.Event()
        self._words: tuple[Any, ...] = ()
        self.thread = threading.Thread(target=self._tell, name="nexus-farewell", daemon=True)
        with suppress(RuntimeError):  # the machine has no more threads: it ends without a word
            self.thread.start()

    def tell(self, message: str, *args: object) -> None:
        """Log why, and let output out, for a little: neither a full pipe nor a held lock may keep the process."""
        self._words = (message, *args)
        self._begin.set()
        if self.thread.is_alive():
            self.thread.join(FAREWELL_SECONDS)

    def give_up(self, message: str, *args: object) -> NoReturn:
        """End the process by force, and say why."""
        self.tell(message, *args)
        os._exit(EXIT_FORCED)

    def outlive(self, grace_end: float) -> NoReturn:
        """End the process once its program has ended and it waits for threads alone, which have had their time."""
        while not ((left := self._waited_for()) and time.monotonic() > grace_end + THREAD_SECONDS):
            time.sleep(TICK)
        self.tell("Ending without %d threads that go on: %s", len(left), ", ".join(left[:10]))
        os._exit(0)

    def _waited_for(self) -> list[str]:
        """Return the threads that the interpreter waits for since the program has ended, before it calls ``atexit``."""
        main = threading.main_thread()
        others = [each for each in threading.enumerate() if each not in (main, threading.current_thread(), self.thread)]
        if not main.is_alive():
            return [each.name for each in others if not each.daemon]
        is_ending = getattr(threading, "_SHUTTING_DOWN", False)  # it waits for executors' threads, daemons or not
        return [each.name for each in others] if is_ending else []

    def _tell(self) -> None:
        self._begin.wait()
        log.error(*self._words)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
