"""The plugin ``logs``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError, Platform, Plugin
from nexus_logs.settings import LogSettings

if TYPE_CHECKING:
    import logging

    from nexus_toolkit.redaction import Redactor

    from nexus_core import Interceptor
    from nexus_core.types.measurement import Measurement
    from nexus_logs.audit import AuditLog


class LogsPlugin(Plugin[LogSettings]):
    """Formats log records, logs calls, and writes the audit log."""

    def __init__(self, platform: Platform, settings: LogSettings) -> None:
        super().__init__(platform, settings)
        self._audit: AuditLog | None = None

    def nexus_register_log_handlers(self) -> list[logging.Handler]:
        """Return the handler that writes records to stderr."""
        from nexus_logs.formatting import make_formatter, send_structlog_to_logging
        from nexus_logs.handler import LineHandler

        send_structlog_to_logging()
        return [LineHandler(make_formatter(self.settings.log_format, self._redactor()))]

    def nexus_register_interceptors(self) -> list[Interceptor]:
        """Return the stages that log and audit calls.

        Raises:
            ConfigurationError: The audit log can't be opened, or a workflow has invalid ``sensitive_parameters``.
        """
        from nexus_toolkit.sensitive import SensitiveParameters, sensitive_parameters

        from nexus_logs.audit import AuditLog
        from nexus_logs.calls import CallLog, CallStartAudit, RefusedReadAudit

        settings = self.settings
        if settings.audit_required and settings.audit_log is None:
            raise ConfigurationError("audit_required needs audit_log: the file to write.")
        for workflow in self.platform.workflows.every():
            sensitive_parameters(workflow)
        redactor, sensitive = self._redactor(), SensitiveParameters()
        if settings.audit_log is None:
            return [CallLog(redactor, sensitive, logs=self._logs_calls())]
        self._audit = audit = AuditLog(
            settings.audit_log, with_parameters=settings.audit_parameters, is_required=settings.audit_required
        )
        return [
            CallLog(redactor, sensitive, logs=self._logs_calls(), audit=audit),
            CallStartAudit(audit),
            RefusedReadAudit(redactor, audit),
        ]

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return the measurements of the audit log."""
        return [] if self._audit is None else self._audit.measurements()

    async def shutdown(self) -> None:
        """Write the rest of the audit log."""
        audit, self._audit = self._audit, None
        if audit is not None:
            await self.platform.threads.call(audit.close)

    def _redactor(self) -> Redactor:
        from nexus_toolkit.redaction import Redactor, option_secrets

        return Redactor(self.settings.log_redact, option_secrets(self.platform.every_settings))

    def _logs_calls(self) -> bool:
        if self.settings.log_invocations is not None:
            return self.settings.log_invocations
        return self.settings.log_format == "json" or not (sys.stderr is not None and sys.stderr.isatty())
