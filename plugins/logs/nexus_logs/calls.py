"""The stages that log calls: `CallLog` the end, `CallStartAudit` the start, `RefusedReadAudit` refused reads."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from nexus_core import Invocation, NexusError, Stage
from nexus_logs.call import LoggedCall, LoggedRequest, current_call

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_toolkit.redaction import Redactor
    from nexus_toolkit.sensitive import SensitiveParameters

    from nexus_core import AnyCaller, CallNext, Result
    from nexus_core.pipeline.stage import Call
    from nexus_logs.audit import AuditLog

LOGGER = "nexus.calls"


class CallLog:
    """Associates log records with their call, and logs the outcome of each call.

    Args:
        redactor: Redacts secrets.
        sensitive: The sensitive parameters of workflows.
        logs: Whether to log a record for each call.
        audit: The audit log, or None.
    """

    stage = Stage.OBSERVE

    def __init__(
        self, redactor: Redactor, sensitive: SensitiveParameters, *, logs: bool, audit: AuditLog | None = None
    ) -> None:  # fmt: skip
        self._redactor = redactor
        self._sensitive = sensitive
        self._logger = logging.getLogger(LOGGER) if logs else None
        self._audit = audit

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        """Process the call and log its outcome."""
        call = LoggedCall(invocation, self._redactor, self._sensitive)
        token = current_call.set(call)
        begin = time.perf_counter()
        try:
            if self._audit is not None and self._audit.is_required:
                self._audit.check()
            result = await call_next(invocation)
        except NexusError as exc:
            self._log(call, begin, exc.outcome, error=exc)
            raise
        except BaseException as exc:
            verdict = "cancelled" if isinstance(exc, asyncio.CancelledError) else "failed"
            self._log(call, begin, verdict)
            raise
        else:
            self._log(call, begin, "completed", result=result)
        finally:
            current_call.reset(token)
        if self._audit is not None and self._audit.is_required:
            await self._audit.flush()
        return result

    def _log(
        self,
        call: LoggedCall,
        begin: float,
        verdict: str,
        *,
        error: NexusError | None = None,
        result: Result | None = None,
    ) -> None:
        is_logged = self._logger is not None and self._logger.isEnabledFor(logging.INFO)
        if not (is_logged or self._audit):
            return
        milliseconds = round((time.perf_counter() - begin) * 1000, 3)
        entry: dict[str, Any] = {"verdict": verdict, **call.ids(), "duration_ms": milliseconds}
        if result is not None:
            entry |= result.flags()
        if error is not None:
            entry |= call.error(error)
        if is_logged:
            assert self._logger is not None
            self._logger.handle(CallRecord(entry))
        if self._audit is not None:
            entry |= call.origin()
            if self._audit.with_parameters:
                entry["parameters"] = call.parameters()
            self._audit.write(entry)


class CallStartAudit:
    """Writes an entry when a call starts to run: the only one, if the process is killed meanwhile.

    Args:
        audit: The audit log.
    """

    stage = Stage.BREAKER + 9  # after every stage that may refuse or answer the call

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Write the entry and process the call."""
        if (call := current_call.get()) is not None:
            entry: dict[str, Any] = {"verdict": "started", **call.ids(), **call.origin()}
            if self._audit.with_parameters:
                entry["parameters"] = call.parameters()
            self._audit.write(entry)
        return self._after_writing(invocation, call_next) if self._audit.is_required else call_next(invocation)

    async def _after_writing(self, invocation: Invocation, call_next: Call) -> Result:
        await self._audit.flush()
        return await call_next(invocation)


class CallRecord(logging.LogRecord):
    """The log record of a call. It copies the constant attributes from a template, since one is made for each call."""

    def __init__(self, call: dict[str, Any]) -> None:
        vars(self).update(_TEMPLATE)
        who = f" by {call['user_id']}" if "user_id" in call else ""
        why = f" ({call['code']})" if "code" in call else ""
        self.call = call
        self.args = (call["workflow"], call["channel"], who, call["verdict"], why, call["duration_ms"])
        self.created = now = time.time()
        self.msecs = int(now % 1 * 1000)
        self.relativeCreated = _TEMPLATE["relativeCreated"] + (now - _TEMPLATE["created"]) * 1000


_TEMPLATE = vars(logging.LogRecord(LOGGER, logging.INFO, "", 0, "%s through %s%s: %s%s in %.1f ms", None, None))


class RefusedReadAudit:
    """Writes an entry for each refused read request (list, describe, follow): unauthenticated or rate limited."""

    stage = Stage.AUTHENTICATE - 1

    def __init__(self, redactor: Redactor, audit: AuditLog) -> None:
        self._redactor = redactor
        self._audit = audit

    def __call__(self, caller: AnyCaller, call_next: CallNext[AnyCaller]) -> Awaitable[Result]:
        """Process the request. Calls are handled by `CallLog`."""
        return call_next(caller) if isinstance(caller, Invocation) else self._read(caller, call_next)

    async def _read(self, caller: AnyCaller, call_next: CallNext[AnyCaller]) -> Result:
        try:
            return await call_next(caller)
        except NexusError as exc:
            request = LoggedRequest(caller, self._redactor)
            self._audit.write({"verdict": "refused", **request.ids(), **request.origin(), **request.error(exc)})
            raise
