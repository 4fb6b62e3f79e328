"""`LibraryLog`: limits the log of the MCP library to one line for each kind of event, without session ids."""

from __future__ import annotations

import logging
import re

from nexus_toolkit.redaction import short_id

from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.text import printable
from nexus_mcp._vendor_internals import MODERN_LOGGER

log = logging.getLogger(__name__)

LOGGERS = (
    "mcp.server.runner", "mcp.server.streamable_http", "mcp.server.streamable_http_manager",
    MODERN_LOGGER, "mcp.server.subscriptions", "mcp.shared.jsonrpc_dispatcher",
)  # fmt: skip
"""Loggers of events that clients cause: disconnects, malformed messages, guessed session ids."""

LONGEST = 300
_SESSION_ID = re.compile(r"\b[0-9a-f]{32}\b")


class LibraryLog(logging.Filter):
    """Logs the warnings and errors of the library's loggers in their place, while it is attached.

    Otherwise each client could fill the log, with a traceback for each response that it aborts. Session ids are not
    logged, since they are credentials where authentication is off.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reports = RateLimitedLog(log)

    def attach(self) -> None:
        """Attach the filter to the loggers."""
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def detach(self) -> None:
        """Remove the filter."""
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Log a record in the library's place; records below a warning pass, without ids."""
        key = (record.name, _SESSION_ID.sub("", str(record.msg)))
        text = _SESSION_ID.sub(lambda found: short_id(found[0]), record.getMessage())
        if record.levelno < logging.WARNING:
            record.msg, record.args = text, ()
            return True
        text = printable(text, LONGEST)
        exc = record.exc_info[1] if record.exc_info else None
        if exc is None:
            self._reports.log(record.levelno, key, "The MCP library: %s", text)
        else:
            self._reports.failure(key, _innermost(exc), "The MCP library: %s", text)
        return False


def _innermost(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
