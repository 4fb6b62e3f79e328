"""The options of the plugin ``logs``."""

from __future__ import annotations

import sys
from typing import ClassVar, Literal

from pydantic import Field, PrivateAttr

from nexus_core import PluginSettings
from nexus_logs.audit import Audit


class LogSettings(PluginSettings):
    """How logs look, and what is written down of calls."""

    workflow_metadata: ClassVar[dict[str, str | None]] = {"sensitive_parameters": None}

    log_format: Literal["text", "json"] = Field(
        "text", description="How `Nexus.start` shows log records: lines for people, or one JSON object in each line."
    )
    log_invocations: bool | None = Field(
        None, description="A log record for each call; none for all but text on a terminal."
    )
    log_redact: list[str] = Field([], description="Further names whose values are secret in logs, such as `iban`.")
    audit_log: str | None = Field(
        None, description="Where it is written who called what: a file, or `stderr` or `stdout`; none for nowhere."
    )
    audit_parameters: bool = Field(False, description="Whether the audit log has the parameters of calls.")
    audit_required: bool = Field(
        False, description="Whether calls are refused while the audit log can't be written, and wait for their line."
    )

    _audit: Audit = PrivateAttr(default_factory=Audit)

    @property
    def audit(self) -> Audit:
        """The audit log, as it is between start and stop."""
        return self._audit

    @property
    def tells_calls(self) -> bool:
        """Whether there is a log record for each call."""
        if self.log_invocations is not None:
            return self.log_invocations
        return self.log_format == "json" or not (sys.stderr is not None and sys.stderr.isatty())
