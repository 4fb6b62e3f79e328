"""`MonitoredCheck`: a health check that is run periodically, and its latest result."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.guarded import TimeLimitPassed, within
from nexus_core.concurrency.threads import ENDS_PROCESS, DaemonThreads, is_async
from nexus_health.verdict import HealthVerdict, judge, verdict_of_exception

if TYPE_CHECKING:
    from nexus_core.types.health import HealthCheck
    from nexus_health.redaction import ReportRedactor

CLOSE_SECONDS = 1.0
"""Time limit for a cancelled check."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check.

    Attributes:
        name: The name of the check.
        is_critical: Whether it affects readiness.
        verdict: Whether it is healthy.
        seconds: The duration of the check.
        since: When the status last changed, in seconds since the epoch.
        checked_at: When the check ended, likewise.
    """

    name: str
    is_critical: bool
    verdict: HealthVerdict
    seconds: float
    since: float
    checked_at: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            **self.verdict.to_dict(),
            "critical": self.is_critical,
            "latency_ms": round(self.seconds * 1000, 1),
            "since": round(self.since, 3),
            "checked_at": round(self.checked_at, 3),
        }


class CheckThreads:
    """The threads of sync checks, apart from those of workflows; each check has at most one.

    It outlives stops of the platform, as a thread that hangs does.
    """

    def __init__(self) -> None:
        self.threads = DaemonThreads("nexus-health")
        self._since: dict[str, float] = {}

    def busy_since(self, name: str) -> float | None:
        """Return when the running call of a check started, by `time.monotonic`; None if none has."""
        return self._since.get(name)

    async def call(self, name: str, function: Any) -> Any:
        """Call a function in the thread of a check and return its value. The thread outlives a cancellation."""
        self._since[name] = time.monotonic()
        try:
            return await self.threads.run(None, self._called, name, function)
        except Exception:  # no thread could be started
            self._since.pop(name, None)
            raise

    def _called(self, name: str, function: Any) -> Any:
        try:
            return function()
        finally:
            self._since.pop(name, None)


class MonitoredCheck:
    """A check that is run periodically.

    Args:
        check: The check.
        name: Its unique name.
        timeout: Its time limit in seconds.
        is_strict: Whether it must return a status; see `judge`.
        counts_at_once: Whether the platform is not ready before its first result, if it is critical.
        threads: The threads of sync checks.
        redactor: Redacts secrets.

    Attributes:
        latest: The latest result; None before the first.
    """

    def __init__(
        self, check: HealthCheck, name: str, timeout: float, threads: CheckThreads, redactor: ReportRedactor, *,
        is_critical: bool, is_strict: bool, counts_at_once: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.timeout = timeout
        self.interval = check.interval
        self.is_critical = is_critical
        self.counts_at_once = counts_at_once
        self.latest: CheckResult | None = None
        self._call = check.check
        self._threads = threads
        self._redactor = redactor
        self._judge = partial(judge, redactor=redactor, is_strict=is_strict)
        self._answering_since: float | None = None

    @property
    def holds_up(self) -> bool:
        """Whether the platform is not ready because of this check."""
        if not self.is_critical:
            return False
        return self.counts_at_once if self.latest is None else not self.latest.verdict.is_healthy

    async def run(self) -> bool:
        """Run the check once, within its time limit. Returns whether the status has changed."""
        begun = time.monotonic()
        since = self._answering_since or self._threads.busy_since(self.name)
        if since is None:
            verdict = await self._run_once()
        else:
            begun = since
            verdict = HealthVerdict(
                False, f"timed out after {self.timeout:g} s, and is still running after {_ago(since):.0f} s"
            )
        before, now = self.latest, time.time()
        is_same = before is not None and before.verdict.is_healthy == verdict.is_healthy
        began = before.since if before is not None and is_same else now
        self.latest = CheckResult(self.name, self.is_critical, verdict, _ago(begun), began, now)
        return not (verdict.is_healthy if before is None else is_same)

    async def _run_once(self) -> HealthVerdict:
        try:
            verdict: HealthVerdict = await within(self.timeout, self._answer(), cancel_seconds=CLOSE_SECONDS)
        except TimeLimitPassed:
            return HealthVerdict(False, f"timed out after {self.timeout:g} s")
        except RuntimeError as exc:
            return verdict_of_exception(exc, self._redactor)
        return verdict

    async def _answer(self) -> HealthVerdict:
        """Return the verdict. SystemExit would end the event loop."""
        self._answering_since = time.monotonic()
        try:
            if is_async(self._call):
                returned = await self._call()
            else:
                returned = await self._threads.call(self.name, self._call_and_judge)
                if inspect.isawaitable(returned):
                    returned = await returned
            if isinstance(returned, HealthVerdict):
                return returned
            judged: HealthVerdict = await self._threads.threads.run(None, self._judge, returned)
            return judged
        except (Exception, *ENDS_PROCESS) as exc:
            return verdict_of_exception(exc, self._redactor)
        finally:
            self._answering_since = None

    def _call_and_judge(self) -> Any:
        returned = self._call()
        return returned if inspect.isawaitable(returned) else self._judge(returned)


def _ago(moment: float) -> float:
    return time.monotonic() - moment
