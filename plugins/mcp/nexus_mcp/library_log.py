"""`LibraryLog`: what the MCP library logs of clients: one line each, with a count, without ids of sessions."""

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
"""Those that log what clients make happen: leave in the middle of an answer, send what is malformed, or guess."""

LONGEST = 300
_SESSION_ID = re.compile(r"\b[0-9a-f]{32}\b")


class LibraryLog(logging.Filter):
    """Takes the warnings and errors of the library's loggers in its own hand, while it is attached.

    Each client could write as much into the log as it likes otherwise: a traceback for each answer that it breaks off.
    Who has the id of a session can use the session, where authentication is off.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reports = RateLimitedLog(log)

    def attach(self) -> None:
        """Begin."""
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def detach(self) -> None:
        """End."""
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Log a record in the library's place; leave what is less than a warning to it, without ids."""
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
