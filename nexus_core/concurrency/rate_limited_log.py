"""`RateLimitedLog`: one line for what happens again and again, and a count, however often others make it happen."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

INTERVAL_SECONDS = 10.0
"""Seconds between two lines about the same thing."""

MAX_KEYS = 256
"""Things that are distinguished; with more, the one not seen for longest is forgotten."""

TEXT_LIMIT = 300
"""Characters of an exception's message that are logged."""


class RateLimitedLog:
    """Logs the first of many equal reports at once, counts the others, and logs their number once an interval.

    Callers must not be able to fill a disk with log lines. Safe to use from any thread.

    Args:
        log: Where the lines go.
        interval: Seconds between two lines with the same key.
        clock: Tells the time, in seconds.

    Example:
        ```python
        reports = RateLimitedLog(logging.getLogger(__name__))
        reports.failure("handler", exc, "The event handler %s raised", name)
        # The event handler audit raised: ValueError: no such table (audit.py:12 in record)
        # The event handler audit raised: ValueError: no such table (audit.py:12 in record) (48 more in 10 s)
        ```
    """

    def __init__(
        self,
        log: logging.Logger,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[Hashable, tuple[float, int]] = {}  # when the last line was written, and how often since

    def log(self, level: int, key: Hashable, message: str, *args: object) -> bool:
        """Log a message, or count it; return whether it was logged.

        Args:
            level: The level, such as ``logging.WARNING``.
            key: Messages with equal keys are about the same thing.
            message: The message, in ``%`` style.
            args: Its arguments.
        """
        if not self._log.isEnabledFor(level):
            return False
        now = self._clock()
        with self._lock:
            begin, count = self._since.pop(key, (-self._interval, 0))
            is_due = now - begin >= self._interval
            self._since[key] = (now, 0) if is_due else (begin, count + 1)
            if len(self._since) > MAX_KEYS:
                del self._since[next(iter(self._since))]
        if is_due:
            self._write(level, message, args, count, now - begin)
        elif not count:
            self._write_later(begin + self._interval - now, level, key, message, args)
        return is_due

    def failure(self, key: Hashable, exc: BaseException, message: str, *args: object) -> None:
        """Log an exception as an error in one line, or count it; a traceback follows where DEBUG is on.

        Args:
            key: What failed. Exceptions of other classes, and from other places, count on their own.
            exc: The exception.
            message: What failed, in ``%`` style; the exception follows it.
            args: Its arguments.
        """
        if self.log(logging.ERROR, (key, type(exc), _place(exc)), f"{message}: %s", *args, in_one_line(exc)):
            self._log.debug("The traceback:", exc_info=exc)

    def _write(self, level: int, message: str, args: tuple[object, ...], count: int, seconds: float) -> None:
        if count:
            message, args = f"{message} (%d more in %.0f s)", (*args, count, seconds)
        self._log.log(level, message, *args)

    def _write_later(self, seconds: float, level: int, key: Hashable, message: str, args: tuple[object, ...]) -> None:
        """Write the number when the interval ends. Without an event loop, the next report does."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        loop.call_later(seconds, self._flush, level, key, message, args)

    def _flush(self, level: int, key: Hashable, message: str, args: tuple[object, ...]) -> None:
        now = self._clock()
        with self._lock:
            begin, count = self._since.get(key, (now, 0))
            if not count:
                return
            self._since[key] = (now, 0)
        self._write(level, message, args, count, now - begin)


def in_one_line(exc: BaseException) -> str:
    """Return an exception's class, message and place: ``ValueError: no such table (audit.py:12 in record)``."""
    text = printable(str(exc), TEXT_LIMIT)
    found = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    place = _place(exc)
    return f"{found} ({place})" if place else found


def _place(exc: BaseException) -> str:
    step = exc.__traceback__
    if step is None:
        return ""
    while step.tb_next is not None:
        step = step.tb_next
    code = step.tb_frame.f_code
    return f"{code.co_filename.rpartition('/')[2]}:{step.tb_lineno} in {code.co_name}"
