"""`Audit`: the log of who called what, and what became of it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from nexus_core import BackendUnavailable
from nexus_logs.line_writer import LineWriter
from nexus_logs.lines import json_line, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


class Audit:
    """The audit log of one platform, between its start and its stop.

    Attributes:
        writer: What writes it; None where nothing is written.
    """

    def __init__(self) -> None:
        self.writer: LineWriter | None = None

    def open(self, target: str) -> None:
        """Begin to write.

        Raises:
            ConfigurationError: The file can't be written.
        """
        self.writer = LineWriter(target, "audit_log", log.error)

    def close(self) -> None:
        """Write what there is, and end. It may wait for the disk: call it in a thread."""
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.close()

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Write down an entry, with the time of now."""
        if self.writer is not None:
            self.writer.put(json_line({"time": timestamp(time.time()), **entry}))

    def check(self) -> None:
        """Make sure that what is told now will be written.

        Raises:
            BackendUnavailable: It can't be.
        """
        if self.writer is None or self.writer.is_failing:
            raise BackendUnavailable("The audit log can't be written, and audit_required is on.", retry_after=1.0)

    async def written(self) -> None:
        """Wait until everything is written.

        Raises:
            BackendUnavailable: It can't be.
        """
        self.check()
        assert self.writer is not None
        try:
            await self.writer.written()
        except TimeoutError:
            raise BackendUnavailable("The audit log can't be written, and audit_required is on.") from None
