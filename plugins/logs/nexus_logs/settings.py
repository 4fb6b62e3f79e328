"""Options of the plugin ``logs``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from nexus_core import MetadataKey, PluginSettings


class LogSettings(PluginSettings):
    """Options of logs and of the audit log."""

    workflow_metadata: ClassVar[dict[str, MetadataKey]] = {
        "sensitive_parameters": MetadataKey("List of parameters that logs do not show.")
    }

    log_format: Literal["text", "json"] = Field(
        "text", description="Format of log records on stderr: `text` for people, `json` for one JSON object per line."
    )
    log_invocations: bool | None = Field(None, description="Log each call. Default: on, except for text on a terminal.")
    log_redact: list[str] = Field([], description="Additional names whose values are redacted, such as `iban`.")
    audit_log: str | None = Field(
        None, description="Destination of the audit log: a file, `stderr` or `stdout`. Default: no audit log."
    )
    audit_parameters: bool = Field(False, description="Include the parameters of calls in the audit log.")
    audit_required: bool = Field(
        False, description="Refuse calls with 503 while the audit log can't be written, and answer after it is written."
    )
