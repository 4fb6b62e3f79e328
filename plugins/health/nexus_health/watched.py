"""`Watched`: one check, run again and again, and what it has said."""

from __future__ import annotations

import asyncio
import inspect
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.threads import DaemonThreads, is_async
from nexus_health.verdict import Verdict, judge, of_exception

if TYPE_CHECKING:
    from nexus_core.types.health import HealthCheck
    from nexus_health.redaction import Shown


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check.

    Attributes:
        name: The check's.
        is_critical: Whether it decides about readiness.
        verdict: What it said.
        seconds: How long it took.
        since: When it began to be so, in seconds since the epoch.
        checked_at: When it was looked at last, likewise.
    """

    name: str
    is_critical: bool
    verdict: Verdict
    seconds: float
    since: float
    checked_at: float

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            **self.verdict.to_dict(),
            "critical": self.is_critical,
            "latency_ms": round(self.seconds * 1000, 1),
            "since": round(self.since, 3),
            "checked_at": round(self.checked_at, 3),
        }


class CheckThreads:
    """The threads of sync checks: no workflow waits for one, and each check has at most one.

    It outlives starts and stops of the platform, as a thread that hangs does.
    """

    def __init__(self) -> None:
        self.threads = DaemonThreads("nexus-health")
        self._since: dict[str, float] = {}

    def busy_since(self, name: str) -> float | None:
        """Return when a check began that is at work still, by `time.monotonic`; None where none is."""
        return self._since.get(name)

    async def call(self, name: str, function: Any) -> Any:
        """Call a function in the thread of a check, and return its value. Cancelled, it goes on."""
        self._since[name] = time.monotonic()
        try:
            return await self.threads.run(_nobody_waits, self._called, name, function)
        except Exception:  # there may have been no thread to be had
            self._since.pop(name, None)
            raise

    def _called(self, name: str, function: Any) -> Any:
        try:
            return function()
        finally:
            self._since.pop(name, None)


def _nobody_waits(_: asyncio.Future[Any]) -> None:
    """The thread ends when it ends."""


class Watched:
    """One check.

    Args:
        check: It.
        name: The name that it has here.
        timeout: Seconds that it gets.
        is_strict: Whether it must say how it is; see `judge`.
        counts_at_once: Whether the platform is not ready before its first answer, if it is critical.
        threads: Where it runs if it is sync.
        redactor: Takes secrets out of what it says.

    Attributes:
        latest: What came of it last; None before that.
    """

    def __init__(
        self, check: HealthCheck, name: str, timeout: float, threads: CheckThreads, redactor: Shown, *,
        is_critical: bool, is_strict: bool, counts_at_once: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.timeout = timeout
        self.is_critical = is_critical
        self.counts_at_once = counts_at_once
        self.latest: Outcome | None = None
        self._call = check.check
        self._threads = threads
        self._redactor = redactor
        self._judge = partial(judge, redactor=redactor, is_strict=is_strict)
        self._task: asyncio.Task[Verdict] | None = None
        self._begun_at = 0.0

    @property
    def holds_up(self) -> bool:
        """Whether the platform is not ready because of it."""
        if not self.is_critical:
            return False
        return self.counts_at_once if self.latest is None else not self.latest.verdict.is_healthy

    async def run(self) -> bool:
        """Look once, for as long as it gets. Returns whether it is otherwise than before."""
        begun = time.monotonic()
        since = self._busy_since()
        if since is None:
            verdict = await self._looked()
        else:
            begun = since
            verdict = Verdict(
                False, f"it did not answer within {self.timeout:g} s, and is still at work after {_ago(since):.0f} s"
            )
        before, now = self.latest, time.time()
        is_same = before is not None and before.verdict.is_healthy == verdict.is_healthy
        began = before.since if before is not None and is_same else now
        self.latest = Outcome(self.name, self.is_critical, verdict, _ago(begun), began, now)
        return not (verdict.is_healthy if before is None else is_same)

    def _busy_since(self) -> float | None:
        if self._task is not None and not self._task.done():
            return self._begun_at
        return self._threads.busy_since(self.name)

    async def _looked(self) -> Verdict:
        self._begun_at = time.monotonic()
        self._task = task = asyncio.create_task(self._answer(), name=f"nexus-health-{self.name}")
        try:
            done, _ = await asyncio.wait({task}, timeout=self.timeout)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if done:
            return task.result()
        task.cancel()
        return Verdict(False, f"it did not answer within {self.timeout:g} s")

    async def _answer(self) -> Verdict:
        """Return what the check means. Whatever it raises goes no further: it may be what ends an event loop."""
        try:
            if is_async(self._call):
                returned = await self._call()
            else:
                returned = await self._threads.call(self.name, self._call_and_judge)
                if inspect.isawaitable(returned):
                    returned = await returned
            if isinstance(returned, Verdict):
                return returned
            judged: Verdict = await self._threads.threads.run(_nobody_waits, self._judge, returned)
            return judged
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return of_exception(exc, self._redactor)
        except BaseException as exc:
            return of_exception(exc, self._redactor)

    def _call_and_judge(self) -> Any:
        returned = self._call()
        return returned if inspect.isawaitable(returned) else self._judge(returned)

    async def close(self, seconds: float) -> None:
        """Give up what is at work."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=seconds)


def _ago(moment: float) -> float:
    return time.monotonic() - moment
