"""`Monitor`: runs every check of a platform, each in a rhythm of its own, and knows what came of them."""

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
from nexus_health.checker import checks_of
from nexus_health.own import Lag, failed_plugins, own_checks
from nexus_health.redaction import Shown
from nexus_health.verdict import HEALTHY, UNHEALTHY
from nexus_health.watched import CheckThreads, Outcome, Watched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core.app.nexus import Nexus
    from nexus_core.types.health import HealthCheck
    from nexus_health.settings import HealthSettings

log = logging.getLogger(__name__)

HEALTH_CHANGED = "health.changed"
"""The type of the event that tells that a check is otherwise than before: ``check``, ``status`` and ``error``."""

DEGRADED = "degraded"
"""The platform's status where only checks are unhealthy that do not decide about readiness."""

START_SECONDS = 0.02
"""How often it is looked whether the rest of the platform has started."""

TICK_SECONDS = 0.5
"""How often the event loop's delay is measured, and new checkers are looked for."""

CLOSE_SECONDS = 1.0
"""How long a check that is told to stop is waited for."""


class Monitor:
    """Looks how one start of a platform is.

    Args:
        nexus: The platform.
        settings: The options.
        threads: Where sync checks run.
    """

    def __init__(self, nexus: Nexus, settings: HealthSettings, threads: CheckThreads) -> None:
        self._nexus = nexus
        self._settings = settings
        self._threads = threads
        self._redactor = Shown.of(nexus.every_settings)
        self._lag = Lag()
        self._version = core_version()
        self._watched: dict[str, Watched] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._has_begun = False
        self._started_at = time.time()
        # What is wrong with one of these is the application's to mend, before anything starts.
        self._given = [(type(each).__name__, checks_of(each)) for each in nexus.health_checkers]
        self._taken = len(self._given)

    # What came of it

    @property
    def outcomes(self) -> list[Outcome]:
        """What came of the checks that have answered, on any thread."""
        return [each.latest for each in tuple(self._watched.values()) if each.latest is not None]

    @property
    def has_settled(self) -> bool:
        """Whether every check that was there at the start has answered, or had its time."""
        return self._has_begun and all(each.latest for each in self._watched.values() if each.counts_at_once)

    @property
    def longest(self) -> float:
        """The most seconds that one of the checks gets."""
        return max((each.timeout for each in self._watched.values()), default=0.0)

    @property
    def not_ready(self) -> list[str]:
        """The critical checks that are unhealthy, or have not answered yet."""
        return [each.name for each in tuple(self._watched.values()) if each.holds_up]

    def readiness(self) -> dict[str, Any]:
        """Return what is told to anybody who asks whether callers should be sent here: names of checks, no details."""
        if not self.is_ready:
            return {"status": "not ready", "not_ready": self.not_ready}
        unhealthy = [each.name for each in self.outcomes if not each.verdict.is_healthy]
        return {"status": "ready"} | ({"degraded": unhealthy} if unhealthy else {})

    @property
    def is_ready(self) -> bool:
        """Whether callers should be sent here."""
        return self._nexus.is_ready and self._has_begun and not self.not_ready

    @property
    def retry_after(self) -> float:
        """Seconds after which it is worth to ask again."""
        return math.ceil(self._settings.health_check_interval) if self.has_settled and self._nexus.is_ready else 1

    def report(self) -> dict[str, Any]:
        """Return everything that is known, for those who may see it."""
        outcomes = self.outcomes
        checks: dict[str, Any] = {}
        for each in outcomes:
            checks[each.name] = each.to_dict()
            for name, part in each.verdict.parts.items():
                checks[f"{each.name}.{name}"] = {**part.to_dict(), "critical": each.is_critical}
        failed = {name: self._redactor.text(reason) for name, reason in failed_plugins(self._nexus).items()}
        return {
            "status": UNHEALTHY if self.not_ready else HEALTHY if _all_healthy(outcomes) else DEGRADED,
            "ready": self.is_ready,
            "not_ready": self.not_ready,
            "version": self._version,
            "started_at": round(self._started_at, 3),
            "uptime": round(time.time() - self._started_at, 3),
            "checks": checks,
            "failed_plugins": failed,
        }

    # Work

    def start(self) -> None:
        """Begin, as soon as the rest of the platform has started."""
        self._spawn(self._keep_watch(), "nexus-health")

    def _spawn(self, work: Any, name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name, context=Context()))

    async def close(self) -> None:
        """End every check."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(each.close(CLOSE_SECONDS) for each in self._watched.values()))
        self._threads.threads.rest()

    async def _keep_watch(self) -> None:
        while not self._nexus.is_ready:  # noqa: ASYNC110  (what comes last of a start has no hook)
            await asyncio.sleep(START_SECONDS)
        try:
            self._begin()
        except Exception:
            log.exception("The health checks can't be begun: the platform does not count as ready")
            return
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            self._lag.note(time.monotonic() - before - TICK_SECONDS)
            self._take_checkers()

    def _begin(self) -> None:
        for check in (*own_checks(self._nexus, self._lag), *self._nexus.health_checks()):
            self._add(check, self._free_name(str(check.name), "plugin"), is_strict=False, counts_at_once=True)
        for owner, checks in self._given:
            self._add_all(owner, checks, counts_at_once=True)
        self._has_begun = True
        for name in set(self._settings.health_non_critical) - self._watched.keys():
            log.warning("health_non_critical names %r: there is no such check", name)

    def _take_checkers(self) -> None:
        """Begin with the checkers that have been registered since."""
        for checker in self._nexus.health_checkers[self._taken :]:
            self._taken += 1
            try:
                self._add_all(type(checker).__name__, checks_of(checker), counts_at_once=False)
            except ConfigurationError as exc:
                log.error("A health checker is left out: %s", exc)

    def _add_all(self, owner: str, checks: Iterable[HealthCheck], *, counts_at_once: bool) -> None:
        for check in checks:
            self._add(check, self._free_name(check.name, owner), is_strict=True, counts_at_once=counts_at_once)

    def _free_name(self, name: str, owner: str) -> str:
        if name not in self._watched:
            return name
        names = (f"{owner}.{name}", *(f"{owner}.{name}_{number}" for number in range(2, 2 + len(self._watched))))
        return next(each for each in names if each not in self._watched)

    def _add(self, check: HealthCheck, name: str, *, is_strict: bool, counts_at_once: bool) -> None:
        watched = self._watched[name] = Watched(
            check, name, check.timeout or self._settings.health_check_timeout, self._threads, self._redactor,
            is_critical=check.is_critical and name not in self._settings.health_non_critical,
            is_strict=is_strict, counts_at_once=counts_at_once,
        )  # fmt: skip
        self._spawn(self._repeat(watched), f"nexus-health-{name}-repeat")

    async def _repeat(self, watched: Watched) -> None:
        while True:
            begun = time.monotonic()
            if await watched.run():
                self._tell(watched)
            left = self._settings.health_check_interval - (time.monotonic() - begun)
            await asyncio.sleep(left if left > 0 else self._settings.health_check_interval)

    def _tell(self, watched: Watched) -> None:
        """Say once that a check is otherwise than before."""
        assert watched.latest is not None
        verdict = watched.latest.verdict
        if verdict.is_healthy:
            log.info("The check %s is healthy again", watched.name)
        else:
            log.warning("The check %s is unhealthy: %s", watched.name, verdict.error or "it did not say why")
        data = {"check": watched.name, "status": verdict.status, "critical": watched.is_critical}
        if verdict.error is not None:
            data["error"] = verdict.error
        self._nexus.publish(ChannelEvent(HEALTH_CHANGED, data=data))


def _all_healthy(outcomes: list[Outcome]) -> bool:
    return all(each.verdict.is_healthy for each in outcomes)
