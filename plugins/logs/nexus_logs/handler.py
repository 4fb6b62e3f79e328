"""`LineHandler`: writes log records to stderr without blocking."""

from __future__ import annotations

import logging

from nexus_logs.line_writer import LineWriter


class LineHandler(logging.Handler):
    """Formats records at once, and writes them with a `LineWriter`."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = LineWriter(
            "stderr", "log_format", lambda complaint: None
        )  # a failure of stderr can't be reported

    def emit(self, record: logging.LogRecord) -> None:
        """Format and queue a record."""
        try:
            self._writer.put(self.format(record).encode("utf-8", "backslashreplace"))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until everything is written, within a time limit. `logging.shutdown` calls it."""
        self._writer.flush()
