"""The stages that write down calls: `CallLog` their ends, `Begun` that they begin, `RefusedLooks` refused reads."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from nexus_core import NexusError, Stage
from nexus_logs.call import Call, current_call

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_toolkit.redaction import Redactor

    from nexus_core import Invocation, Result
    from nexus_core.pipeline.stage import Call as CallNext
    from nexus_logs.audit import Audit
    from nexus_logs.marks import Marks

LOGGER = "nexus.calls"


class CallLog:
    """Lets log records know which call they belong to, and tells of each call how it ended.

    Args:
        redactor: Knows what is secret.
        marks: Knows which parameters are.
        logs: Whether there is a log record for each call.
        audit: Where it is written who called what; None for nowhere.
        with_parameters: Whether that has parameters.
        required: Whether calls are refused while it can't be written, and wait for their line.
    """

    stage = Stage.OBSERVE

    def __init__(
        self, redactor: Redactor, marks: Marks, *, logs: bool, audit: Audit | None = None,
        with_parameters: bool = False, required: bool = False,
    ) -> None:  # fmt: skip
        self._redactor = redactor
        self._marks = marks
        self._logger = logging.getLogger(LOGGER) if logs else None
        self._audit = audit
        self._with_parameters = with_parameters
        self._required = required

    async def __call__(self, invocation: Invocation, call_next: CallNext) -> Result:
        """Pass the call on, and tell of it."""
        call = Call(invocation, self._redactor, self._marks)
        token = current_call.set(call)
        begin = time.perf_counter()
        try:
            if self._required:
                assert self._audit is not None
                self._audit.check()
            result = await call_next(invocation)
        except NexusError as exc:
            self._tell(call, begin, exc.outcome, error=exc)
            raise
        except BaseException as exc:
            verdict = "cancelled" if isinstance(exc, asyncio.CancelledError) else "failed"
            self._tell(call, begin, verdict)
            raise
        else:
            self._tell(call, begin, "completed", result=result)
        finally:
            current_call.reset(token)
        if self._required:
            assert self._audit is not None
            await self._audit.written()
        return result

    def _tell(
        self, call: Call, begin: float, verdict: str, *, error: NexusError | None = None, result: Result | None = None
    ) -> None:
        is_logged = self._logger is not None and self._logger.isEnabledFor(logging.INFO)
        if not (is_logged or self._audit):
            return
        milliseconds = round((time.perf_counter() - begin) * 1000, 3)
        entry: dict[str, Any] = {"verdict": verdict, **call.ids(), "duration_ms": milliseconds}
        if result is not None:
            entry |= result.flags()
        if error is not None:
            entry |= call.why(error)
        if is_logged:
            assert self._logger is not None
            self._logger.handle(CallRecord(entry))
        if self._audit is not None:
            entry |= call.origin()
            if self._with_parameters:
                entry["parameters"] = call.parameters()
            self._audit.tell(entry)


class Begun:
    """Writes down that a call begins to run: of one whose process is killed, there is this line alone.

    Args:
        audit: Where it is written.
        with_parameters: Whether with parameters.
        required: Whether nothing runs before its line is written.
    """

    stage = Stage.BREAKER + 9  # nothing refuses the call any more, or answers it

    def __init__(self, audit: Audit, *, with_parameters: bool, required: bool) -> None:
        self._audit = audit
        self._with_parameters = with_parameters
        self._required = required

    def __call__(self, invocation: Invocation, call_next: CallNext) -> Awaitable[Result]:
        """Pass the call on, and write it down before."""
        if (call := current_call.get()) is not None:
            entry: dict[str, Any] = {"verdict": "started", **call.ids(), **call.origin()}
            if self._with_parameters:
                entry["parameters"] = call.parameters()
            self._audit.tell(entry)
        return self._after_writing(invocation, call_next) if self._required else call_next(invocation)

    async def _after_writing(self, invocation: Invocation, call_next: CallNext) -> Result:
        await self._audit.written()
        return await call_next(invocation)


class CallRecord(logging.LogRecord):
    """The log record of a call. It is made for each, so that it takes from a ready one what does not change."""

    def __init__(self, call: dict[str, Any]) -> None:
        vars(self).update(_LIKE)
        who = f" by {call['user_id']}" if "user_id" in call else ""
        why = f" ({call['code']})" if "code" in call else ""
        self.call = call
        self.args = (call["workflow"], call["channel"], who, call["verdict"], why, call["duration_ms"])
        self.created = now = time.time()
        self.msecs = int(now % 1 * 1000)
        self.relativeCreated = _LIKE["relativeCreated"] + (now - _LIKE["created"]) * 1000


_LIKE = vars(logging.LogRecord(LOGGER, logging.INFO, "", 0, "%s through %s%s: %s%s in %.1f ms", None, None))


class RefusedLooks:
    """Writes down who wanted to see workflows, runs or sessions and was refused: unknown, or too often."""

    stage = Stage.AUTHENTICATE - 1

    def __init__(self, redactor: Redactor, marks: Marks, audit: Audit) -> None:
        self._redactor = redactor
        self._marks = marks
        self._audit = audit

    def __call__(self, invocation: Invocation, call_next: CallNext) -> Awaitable[Result]:
        """Pass the look on. Calls are `CallLog`'s."""
        return call_next(invocation) if invocation.name else self._look(invocation, call_next)

    async def _look(self, invocation: Invocation, call_next: CallNext) -> Result:
        try:
            return await call_next(invocation)
        except NexusError as exc:
            call = Call(invocation, self._redactor, self._marks)
            ids = {name: value for name, value in call.ids().items() if name != "workflow"}
            self._audit.tell({"verdict": "refused", **ids, **call.origin(), **call.why(exc)})
            raise
