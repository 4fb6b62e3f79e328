"""`HealthMonitor`: runs the health checks of a platform periodically, and has their results."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextvars import Context
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError
from nexus_core.events.event import ChannelEvent
from nexus_core.plugins.discovery import core_version
from nexus_health.builtin_checks import EventLoopLag, builtin_checks, failed_plugins
from nexus_health.checker import checks_of
from nexus_health.monitored_check import CheckResult, CheckThreads, MonitoredCheck
from nexus_health.redaction import ReportRedactor
from nexus_health.settings import HEALTH_CHANGED
from nexus_health.verdict import HEALTHY, UNHEALTHY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core import Platform
    from nexus_core.types.health import HealthCheck
    from nexus_health.settings import HealthSettings

log = logging.getLogger(__name__)

DEGRADED = "degraded"
"""The status of the platform if only non-critical checks are unhealthy."""

START_SECONDS = 0.02
"""Seconds between polls for the end of the start."""

TICK_SECONDS = 0.5
"""Interval of measuring the event loop and of looking for new checkers."""


class HealthMonitor:
    """Monitors the health of a platform, from one start to its stop.

    Args:
        platform: The platform.
        settings: The options.
        threads: The threads of sync checks.

    Raises:
        ConfigurationError: A registered health checker is not valid.
    """

    def __init__(self, platform: Platform, settings: HealthSettings, threads: CheckThreads) -> None:
        self._platform = platform
        self._settings = settings
        self._threads = threads
        self._redactor = ReportRedactor.of(platform.every_settings)
        self._lag = EventLoopLag()
        self._version = core_version()
        self._checks: dict[str, MonitoredCheck] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._has_started = False
        self._started_at = time.time()
        self._initial = [(type(each).__name__, checks_of(each)) for each in platform.health_checkers]
        self._known_checkers = len(self._initial)

    @property
    def results(self) -> list[CheckResult]:
        """The results of the checks that have run. From any thread."""
        return [each.latest for each in tuple(self._checks.values()) if each.latest is not None]

    @property
    def has_settled(self) -> bool:
        """Whether every check that was registered at the start has a result."""
        return self._has_started and all(each.latest for each in self._checks.values() if each.counts_at_once)

    @property
    def longest(self) -> float:
        """The longest time limit of a check."""
        return max((each.timeout for each in self._checks.values()), default=0.0)

    @property
    def not_ready(self) -> list[str]:
        """The critical checks that are unhealthy or have no result yet."""
        return [each.name for each in tuple(self._checks.values()) if each.holds_up]

    def readiness(self) -> dict[str, Any]:
        """Return the public readiness report: names of checks, without details."""
        if not self.is_ready:
            return {"status": "not ready", "not_ready": self.not_ready}
        unhealthy = [each.name for each in self.results if not each.verdict.is_healthy]
        return {"status": "ready"} | ({"degraded": unhealthy} if unhealthy else {})

    @property
    def is_ready(self) -> bool:
        """Whether the platform is ready for calls."""
        return self._platform.is_ready and self._has_started and not self.not_ready

    @property
    def retry_after(self) -> float:
        """Seconds after which clients should retry."""
        if not (self.has_settled and self._platform.is_ready):
            return 1
        unhealthy = [self._interval(each) for each in tuple(self._checks.values()) if each.holds_up]
        return math.ceil(max(unhealthy, default=self._settings.health_check_interval))

    def report(self) -> dict[str, Any]:
        """Return the full report."""
        results = self.results
        checks: dict[str, Any] = {}
        for each in results:
            checks[each.name] = each.to_dict()
            for name, part in each.verdict.parts.items():
                checks[f"{each.name}.{name}"] = {**part.to_dict(), "critical": each.is_critical}
        failed = {name: self._redactor.text(reason) for name, reason in failed_plugins(self._platform).items()}
        return {
            "status": UNHEALTHY if self.not_ready else HEALTHY if _all_healthy(results) else DEGRADED,
            "ready": self.is_ready,
            "not_ready": self.not_ready,
            "version": self._version,
            "started_at": round(self._started_at, 3),
            "uptime": round(time.time() - self._started_at, 3),
            "checks": checks,
            "failed_plugins": failed,
        }

    def start(self) -> None:
        """Start the checks, as soon as the rest of the platform has started."""
        self._spawn(self._supervise(), "nexus-health")

    def _spawn(self, work: Any, name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name, context=Context()))

    async def close(self) -> None:
        """Stop the checks."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._threads.threads.rest()

    async def _supervise(self) -> None:
        while not self._platform.is_ready:  # noqa: ASYNC110  (what comes last of a start has no hook)
            await asyncio.sleep(START_SECONDS)
        try:
            self._begin()
        except Exception:
            log.exception("The health checks can't be started: the platform is not ready")
            return
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            self._lag.note(time.monotonic() - before - TICK_SECONDS)
            self._add_new_checkers()

    def _begin(self) -> None:
        for check in (*builtin_checks(self._platform, self._lag), *self._platform.health_checks()):
            self._add(check, self._free_name(str(check.name), "plugin"), is_strict=False, counts_at_once=True)
        for owner, checks in self._initial:
            self._add_all(owner, checks, counts_at_once=True)
        self._has_started = True
        for name in set(self._settings.health_non_critical) - self._checks.keys():
            log.warning("health_non_critical: unknown check %r", name)

    def _add_new_checkers(self) -> None:
        """Start the checks of checkers that have been registered since."""
        for checker in self._platform.health_checkers[self._known_checkers :]:
            self._known_checkers += 1
            try:
                self._add_all(type(checker).__name__, checks_of(checker), counts_at_once=False)
            except ConfigurationError as exc:
                log.error("A health checker is ignored: %s", exc)

    def _add_all(self, owner: str, checks: Iterable[HealthCheck], *, counts_at_once: bool) -> None:
        for check in checks:
            self._add(check, self._free_name(check.name, owner), is_strict=True, counts_at_once=counts_at_once)

    def _free_name(self, name: str, owner: str) -> str:
        if name not in self._checks:
            return name
        names = (f"{owner}.{name}", *(f"{owner}.{name}_{number}" for number in range(2, 2 + len(self._checks))))
        return next(each for each in names if each not in self._checks)

    def _add(self, check: HealthCheck, name: str, *, is_strict: bool, counts_at_once: bool) -> None:
        monitored = self._checks[name] = MonitoredCheck(
            check, name, check.timeout or self._settings.health_check_timeout, self._threads, self._redactor,
            is_critical=check.is_critical and name not in self._settings.health_non_critical,
            is_strict=is_strict, counts_at_once=counts_at_once,
        )  # fmt: skip
        self._spawn(self._repeat(monitored), f"nexus-health-{name}-repeat")

    async def _repeat(self, check: MonitoredCheck) -> None:
        while True:
            begun = time.monotonic()
            if await check.run():
                self._announce(check)
            interval = self._interval(check)
            left = interval - (time.monotonic() - begun)
            await asyncio.sleep(left if left > 0 else interval)

    def _interval(self, check: MonitoredCheck) -> float:
        common = self._settings.health_check_interval
        return common if check.interval is None else min(common, check.interval)

    def _announce(self, check: MonitoredCheck) -> None:
        """Log and publish a changed status."""
        assert check.latest is not None
        verdict = check.latest.verdict
        if verdict.is_healthy:
            log.info("Health check %s is healthy again", check.name)
        else:
            log.warning("Health check %s is unhealthy: %s", check.name, verdict.error or "no reason given")
        data = {"check": check.name, "status": verdict.status, "critical": check.is_critical}
        if verdict.error is not None:
            data["error"] = verdict.error
        self._platform.publish(ChannelEvent(HEALTH_CHANGED, data=data))


def _all_healthy(results: list[CheckResult]) -> bool:
    return all(each.verdict.is_healthy for each in results)
