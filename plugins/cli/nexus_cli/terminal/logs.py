"""Where logs go when the application runs inside the command line."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_cli.options import Options


class _OneLine(logging.Formatter):
    """Warnings as the rest of the command line speaks: one line each, without tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return f"nexus: {printable(record.getMessage(), 1000)}"


def show_logs(options: Options) -> None:
    """Send logs to stderr: everything with ``--debug``, else warnings. An application with its own logging keeps it."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    if options.debug:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    else:
        handler.setFormatter(_OneLine())
        handler.setLevel(logging.WARNING)
        handler.addFilter(
            lambda record: record.name != "nexus_core.pipeline.execution"
        )  # the caller gets these as errors
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if options.debug else logging.WARNING)
