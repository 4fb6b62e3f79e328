"""Formats of log records: JSON, or text for people. Neither contains secrets or control characters."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import short_id

from nexus_core.runs.context import current_run
from nexus_core.text import printable
from nexus_core.types.trace import current_trace
from nexus_logs.call import current_call
from nexus_logs.calls import CallRecord
from nexus_logs.lines import json_line, shown, timestamp

if TYPE_CHECKING:
    from nexus_toolkit.redaction import Redactor
    from structlog.typing import EventDict, Processor, WrappedLogger

MESSAGE_CHARACTERS = 10_000
"""Characters of a message, at most."""

TRACEBACK_CHARACTERS = 30_000
"""Characters of a traceback, at most: its end, which names the exception."""


def make_formatter(log_format: str, redactor: Redactor) -> logging.Formatter:
    """Return the formatter for the value of the option ``log_format``."""
    return json_formatter(redactor) if log_format == "json" else TextFormatter(redactor)


def send_structlog_to_logging() -> None:
    """Send structlog's events to `logging`, unless the application has configured structlog."""
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


def json_formatter(redactor: Redactor) -> logging.Formatter:
    """Return the formatter that renders a record as a JSON object.

    Its members: ``timestamp``, ``level``, ``logger``, ``message``; ``run_id``, ``workflow``, ``channel``,
    ``session_id``, ``user_id``, ``tenant_id``, ``trace_id``, ``span_id`` if known; the members of ``extra``, in a
    member ``extra`` if their name is taken; ``exception`` with the traceback.
    """
    import structlog

    shared: list[Processor] = [
        _take_extra,
        structlog.processors.format_exc_info,
        structlog.processors.StackInfoRenderer(),
    ]
    cleaned: list[Processor] = [
        _Redaction(redactor),
        structlog.processors.JSONRenderer(serializer=_serialized),
    ]

    class JsonFormatter(structlog.stdlib.ProcessorFormatter):
        """Renders the frequent records of `CallLog` directly: they are redacted already."""

        def format(self, record: logging.LogRecord) -> str:
            return _call_line(record, record.call) if isinstance(record, CallRecord) else super().format(record)

    return JsonFormatter(foreign_pre_chain=shared, processors=cleaned)


def _call_line(record: logging.LogRecord, call: dict[str, Any]) -> str:
    members = {
        "timestamp": timestamp(record.created), "level": "info", "logger": record.name, "message": record.getMessage(),
        **call,
    }  # fmt: skip
    return json_line(members).decode()


def _take_extra(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Separate the extra attributes of a record from its own."""
    event[_EXTRA] = {name: value for name, value in vars(event["_record"]).items() if name not in _STANDARD}
    return event


def _serialized(event: EventDict, **_: Any) -> str:
    return json_line(event).decode()


class _Redaction:
    """Adds the ids of the call, and redacts secrets."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Return the members of the line in order."""
        secrets = _secrets()
        record: logging.LogRecord | None = event.pop("_record", None)
        event.pop("_from_structlog", None)
        own = {name: event.pop(name, None) for name in _OWN} | _of_record(record)
        given = {**event.pop(_EXTRA, {}), **event}
        line: dict[str, Any] = {name: own[name] for name in ("timestamp", "level", "logger")}
        line["message"] = self._redactor.text(shown(own["event"])[:MESSAGE_CHARACTERS], secrets)
        line |= _ids()
        for name, value in self._redactor.value(given, secrets).items():
            if name == "event" or name not in (*line, *_OWN):
                line[name] = value
            elif name not in line or line[name] != value:
                line.setdefault("extra", {})[name] = value
        for name in ("stack", "exception"):
            if own[name]:
                line[name] = self._redactor.text(shown(own[name])[-TRACEBACK_CHARACTERS:], secrets)
        return line


def _of_record(record: logging.LogRecord | None) -> dict[str, Any]:
    """Return the members that identify a record."""
    if record is None:
        return {"timestamp": timestamp(time.time())}
    return {"timestamp": timestamp(record.created), "level": record.levelname.lower(), "logger": record.name}


def _ids() -> dict[str, Any]:
    """Return the ids of the current call."""
    call, run, trace = current_call.get(), current_run.get(), current_trace.get()
    ids = call.ids() if call is not None else {}
    if run is not None and call is None:
        known = {
            "workflow": run.workflow, "channel": run.channel, "run_id": run.id,
            "session_id": None if run.session_id is None else short_id(run.session_id), "user_id": run.user_id,
        }  # fmt: skip
        ids = {name: value for name, value in known.items() if value is not None}
    if trace is not None:
        ids["trace_id"], ids["span_id"] = trace.trace_id, trace.span_id
    return ids


def _secrets() -> tuple[str, ...]:
    call = current_call.get()
    return () if call is None else call.secrets()


_EXTRA = "_extra"
_OWN = ("timestamp", "level", "logger", "event", "stack", "exception", "extra")
"""Members from the record itself; ``extra`` holds attributes whose names are taken."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes of every record."""


class TextFormatter(logging.Formatter):
    """A line for people. Input of callers can't forge a second line; tracebacks are indented."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback if there is one."""
        secrets = _secrets()
        message = printable(self._redactor.text(record.getMessage(), secrets), MESSAGE_CHARACTERS)
        text = f"{self.formatTime(record)} {record.levelname} {record.name}: {message}{self._extra(record, secrets)}"
        ids = record.call if isinstance(record, CallRecord) else _ids()
        told = [f"{name.removesuffix('_id')} {ids[name]}" for name in ("run_id", "trace_id") if name in ids]
        if told:
            text += f" [{', '.join(told)}]"
        if record.exc_info:
            trace = self.formatException(record.exc_info)[-TRACEBACK_CHARACTERS:]
            lines = self._redactor.text(trace, secrets).splitlines()
            text += "".join(f"\n    {printable(line, MESSAGE_CHARACTERS)}" for line in lines)
        return text

    def _extra(self, record: logging.LogRecord, secrets: tuple[str, ...]) -> str:
        """Return the extra attributes of a record, without the ids at the end of the line."""
        given = {
            name: value
            for name, value in vars(record).items()
            if name not in _STANDARD and name not in ("run_id", "workflow")
        }
        if isinstance(record, CallRecord):
            del given["call"]
        clean = self._redactor.value(given, secrets) if given else {}
        return "".join(f" {printable(name)}={printable(shown(value), 500)}" for name, value in clean.items())
