"""Logging of an application that runs inside the command line."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_cli.options import Options


class _OneLine(logging.Formatter):
    """Formats a record like the command line's errors: one line, without a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return f"nexus: {printable(record.getMessage(), 1000)}"


def show_logs(options: Options) -> None:
    """Log to stderr: everything with ``--debug``, else warnings. An application with handlers keeps its own."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    if options.debug:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    else:
        handler.setFormatter(_OneLine())
        handler.setLevel(logging.WARNING)
        handler.addFilter(lambda record: record.name != "nexus_core.pipeline.execution")  # these are shown as errors
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if options.debug else logging.WARNING)
