"""What the plugin gives to one start of a platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_toolkit.redaction import Redactor, option_secrets

from nexus_core import ConfigurationError
from nexus_core.types.measurement import Measurement
from nexus_logs.calls import Begun, CallLog, RefusedLooks
from nexus_logs.formatting import make_formatter
from nexus_logs.handler import LineHandler
from nexus_logs.marks import Marks, sensitive_parameters

if TYPE_CHECKING:
    from nexus_core import Interceptor, Nexus
    from nexus_logs.settings import LogSettings


def log_handler(nexus: Nexus, settings: LogSettings) -> LineHandler:
    """Return what shows records on stderr."""
    _send_structlog_to_logging()
    return LineHandler(make_formatter(settings.log_format, _redactor(nexus, settings)))


def _redactor(nexus: Nexus, settings: LogSettings) -> Redactor:
    return Redactor(settings.log_redact, option_secrets(nexus.every_settings))


def _send_structlog_to_logging() -> None:
    """Let what workflows tell structlog come out with everything else, unless the application has configured it."""
    import structlog

    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.render_to_log_kwargs,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )


def stages(nexus: Nexus, settings: LogSettings) -> list[Interceptor]:
    """Return the stages that are switched on.

    Raises:
        ConfigurationError: The audit log can't be written, or a workflow marks its parameters in a wrong way.
    """
    if settings.audit_required and settings.audit_log is None:
        raise ConfigurationError("audit_required needs audit_log: where to write it.")
    for name in nexus.workflows.names():
        sensitive_parameters(nexus.workflows.get(name))
    redactor, marks = _redactor(nexus, settings), Marks()
    if settings.audit_log is None:
        return [CallLog(redactor, marks, logs=settings.tells_calls)]
    audit = settings.audit
    audit.open(settings.audit_log)
    return [
        CallLog(
            redactor,
            marks,
            logs=settings.tells_calls,
            audit=audit,
            with_parameters=settings.audit_parameters,
            required=settings.audit_required,
        ),
        Begun(audit, with_parameters=settings.audit_parameters, required=settings.audit_required),
        RefusedLooks(redactor, marks, audit),
    ]


def measurements(settings: LogSettings) -> list[Measurement]:
    """Return how the audit log keeps up, where there is one."""
    if settings.audit_log is None:
        return []

    def number(name: str) -> float:
        writer = settings.audit.writer
        return 0 if writer is None else float(getattr(writer, name))

    return [
        Measurement.of(
            "nexus_audit_backlog", "gauge", "Audit lines that wait to be written.", lambda: number("backlog")
        ),
        Measurement.of(
            "nexus_audit_dropped_total", "counter", "Audit lines that were dropped.", lambda: number("dropped")
        ),
        Measurement.of(
            "nexus_audit_failing", "gauge", "Whether the audit log can't be written.", lambda: number("is_failing")
        ),
    ]
