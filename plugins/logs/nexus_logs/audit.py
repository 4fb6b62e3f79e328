"""`AuditLog`: who called what, with which outcome."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from nexus_core import BackendUnavailable
from nexus_core.types.measurement import Measurement
from nexus_logs.line_writer import LineWriter
from nexus_logs.lines import json_line, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

_UNAVAILABLE = "The audit log can't be written, and audit_required is on."


class AuditLog:
    """The audit log of a platform, from one start to its stop.

    Args:
        target: A file, ``stderr`` or ``stdout``.
        with_parameters: Whether entries have the parameters of calls.
        is_required: Whether calls are refused while the log can't be written, and wait for their entries.

    Raises:
        ConfigurationError: The file can't be written.
    """

    def __init__(self, target: str, *, with_parameters: bool, is_required: bool) -> None:
        self.with_parameters = with_parameters
        self.is_required = is_required
        self._writer = LineWriter(target, "audit_log", log.error)
        self._is_open = True

    def close(self) -> None:
        """Write what is queued and close the file; later entries are ignored. It blocks: call it in a thread."""
        self._is_open = False
        self._writer.close()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Queue an entry, with the current time."""
        if self._is_open:
            self._writer.put(json_line({"time": timestamp(time.time()), **entry}))

    def check(self) -> None:
        """Check that entries can be written.

        Raises:
            BackendUnavailable: They can't.
        """
        if not self._is_open or self._writer.is_failing:
            raise BackendUnavailable(_UNAVAILABLE, retry_after=1.0)

    async def flush(self) -> None:
        """Wait until every queued entry is written.

        Raises:
            BackendUnavailable: That is not possible.
        """
        self.check()
        try:
            await self._writer.written()
        except TimeoutError:
            raise BackendUnavailable(_UNAVAILABLE) from None

    def measurements(self) -> list[Measurement]:
        """Return the measurements of the log."""
        writer = self._writer
        return [
            Measurement.of(
                "nexus_audit_backlog", "gauge", "Audit entries that wait to be written.", lambda: writer.backlog
            ),
            Measurement.of(
                "nexus_audit_dropped_total", "counter", "Audit entries that were dropped.", lambda: writer.dropped
            ),
            Measurement.of(
                "nexus_audit_failing",
                "gauge",
                "Whether the audit log can't be written: 1 or 0.",
                lambda: writer.is_failing,
            ),
        ]
