"""The plugin ``ratelimit``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError, Plugin, Stage
from nexus_ratelimit.settings import RateLimitSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core import Interceptor, Platform
    from nexus_ratelimit.counters import Counters

log = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
"""Seconds without a failure before a store counts as available again."""


class RateLimitPlugin(Plugin[RateLimitSettings]):
    """Limits calls and invalid credentials per caller, if ``enable_rate_limiting`` is set."""

    def __init__(self, platform: Platform, settings: RateLimitSettings) -> None:
        super().__init__(platform, settings)
        if settings.enable_rate_limiting:
            from nexus_ratelimit.budgets import Budgets

            self._budgets = Budgets(settings.rate_limit_per_minute, settings.rate_limit_strategy)

    def nexus_register_services(self) -> dict[str, object]:
        """Return the budgets, for application code outside of workflows."""
        return {"rate_limiter": self._budgets} if self.settings.enable_rate_limiting else {}

    def nexus_register_interceptors(self) -> list[Interceptor]:
        """Return the limits on calls and on invalid credentials.

        Raises:
            ConfigurationError: Unknown store, one that can't count, or a workflow's metadata is invalid.
        """
        settings, platform = self.settings, self.platform
        if not settings.enable_rate_limiting:
            return []
        from nexus_ratelimit.attempts import FailedAttempts
        from nexus_ratelimit.callers import CallerKeys
        from nexus_ratelimit.limiter import RateLimiter
        from nexus_ratelimit.limits import MINUTE, Limit, limit_of
        from nexus_ratelimit.shared import ExhaustedBudgets

        for workflow in platform.workflows.every():
            limit_of(workflow)
        callers, counters = CallerKeys(), self._counter_factory()
        failures = Limit(
            settings.auth_failures_per_minute, MINUTE,
            "Too many invalid credentials from this address: auth_failures_per_minute",
        )  # fmt: skip
        calls = Limit(settings.rate_limit_per_minute, MINUTE, "Too many calls: rate_limit_per_minute")
        is_first = settings.rate_limit_before_auth and platform.guards
        limiter = RateLimiter(calls, callers, counters(), Stage.AUTHENTICATE - 2 if is_first else Stage.LIMIT)
        self._budgets.use(limiter)
        return [FailedAttempts(failures, callers, counters(), ExhaustedBudgets(settings.rate_limit_max_keys)), limiter]

    def _counter_factory(self) -> Callable[[], Counters]:
        """Return a function that creates counters; each has its own memory, so that limits do not evict each other."""
        from nexus_toolkit.outage_log import OutageLog

        from nexus_core.state.memory_store import MEMORY
        from nexus_core.state.stores import CountingStore
        from nexus_ratelimit.counters import LocalCounters
        from nexus_ratelimit.shared import ExhaustedBudgets, SharedCounters

        backend, max_keys = self.settings.rate_limit_backend, self.settings.rate_limit_max_keys
        strategy = self.settings.rate_limit_strategy
        store = self.platform.store(backend, "rate_limit_backend")
        if store.name == MEMORY:
            return lambda: LocalCounters(strategy, max_keys)
        if not isinstance(store, CountingStore):
            option, hint = (
                ("rate_limit_backend", "")
                if backend
                else ("store", f": set rate_limit_backend to {MEMORY} or another store")
            )
            raise ConfigurationError(f"{option}: the store {store.name!r} can't count calls{hint}.")
        outage = OutageLog(
            log,
            f"The store {store.name} is unavailable: each process limits calls separately",
            f"The store {store.name} is available again: processes share their limits",
            settle_seconds=SETTLE_SECONDS,
        )
        return lambda: SharedCounters(
            store, strategy, LocalCounters(strategy, max_keys), outage, ExhaustedBudgets(max_keys)
        )
