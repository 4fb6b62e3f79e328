"""`OutageLog`: one log line when something that is used all the time stops working, and one when it works again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

QUIET_SECONDS = 60.0
"""Seconds between two warnings at least, however often the outage ends and begins in between."""


class OutageLog:
    """Logs an outage as a warning when it begins, and its end as information. Cheap enough to be told of every call.

    Args:
        log: The logger.
        unavailable: The warning; the reason follows it.
        available: The message for the end of the outage.
        settle_seconds: Seconds without a failure before the outage has ended.
        clock: Returns the time in seconds; it never goes back.

    Example:
        ```python
        outage = OutageLog(log, "The store is unavailable, results are not cached", "The store is available again")
        try:
            value = await store.get(key)
        except BackendUnavailable as exc:
            outage.failed(exc)
        else:
            outage.succeeded()
        ```
    """

    def __init__(
        self, log: logging.Logger, unavailable: str, available: str, *, settle_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._log = log
        self._unavailable = unavailable
        self._available = available
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._failed_at: float | None = None
        self._warned_at = -QUIET_SECONDS

    def failed(self, reason: object) -> None:
        """Report a failure.

        Args:
            reason: The exception, or a text.
        """
        now = self._clock()
        if self._failed_at is None:
            if now - self._warned_at < QUIET_SECONDS:
                return
            self._warned_at = now
            name = f"{type(reason).__name__}: " if isinstance(reason, Exception) else ""
            self._log.warning("%s: %s%s", self._unavailable, name, reason)
        self._failed_at = now

    def succeeded(self) -> None:
        """Report that it has worked."""
        if self._failed_at is not None and self._clock() - self._failed_at >= self._settle_seconds:
            self._failed_at = None
            self._log.info("%s", self._available)
