"""`LineHandler`: shows log records on stderr, without ever waiting for whoever reads that."""

from __future__ import annotations

import logging

from nexus_logs.line_writer import LineWriter


class LineHandler(logging.Handler):
    """Formats records at once and lets a `LineWriter` write them."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = LineWriter("stderr", "log_format", lambda complaint: None)  # there is nowhere to complain

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            self._writer.put(self.format(record).encode("utf-8", "backslashreplace"))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until everything is written, for a little. `logging.shutdown` does so at the end."""
        self._writer.flush()
