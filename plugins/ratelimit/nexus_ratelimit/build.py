"""Makes the stages out of the options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import ConfigurationError, Stage
from nexus_core.state.memory_store import MEMORY
from nexus_core.state.stores import CountingStore
from nexus_ratelimit.attempts import FailedAttempts
from nexus_ratelimit.callers import Callers
from nexus_ratelimit.counters import LocalCounters
from nexus_ratelimit.limiter import RateLimiter
from nexus_ratelimit.limits import MINUTE, Limit, limit_of
from nexus_ratelimit.shared import Outage, SharedCounters, Spent

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core import Interceptor, Nexus
    from nexus_ratelimit.counters import Counters
    from nexus_ratelimit.settings import RateLimitSettings


def stages(nexus: Nexus, settings: RateLimitSettings) -> list[Interceptor]:
    """Return the stages that are switched on.

    Raises:
        ConfigurationError: There is no such store, it can't count, or a workflow's metadata is wrong.
    """
    found: list[Interceptor] = []
    if settings.enable_rate_limiting:
        for name in nexus.list_workflows():
            limit_of(nexus.workflows.get(name))
        callers, make = Callers(), _maker(nexus, settings)
        found.append(_failed_attempts(settings, callers, make()))
        general = Limit(settings.rate_limit_per_minute, MINUTE, "Too many calls: rate_limit_per_minute")
        is_first = settings.rate_limit_before_auth and nexus.guards
        stage = Stage.AUTHENTICATE - 2 if is_first else Stage.LIMIT
        limiter = RateLimiter(general, callers, make(), stage)
        settings.budgets.use(limiter)
        found.append(limiter)
    return found


def _failed_attempts(settings: RateLimitSettings, callers: Callers, counters: Counters) -> FailedAttempts:
    rule = "Too many wrong credentials from this address: auth_failures_per_minute"
    limit = Limit(settings.auth_failures_per_minute, MINUTE, rule)
    return FailedAttempts(limit, callers, counters, Spent(settings.rate_limit_max_keys))


def _maker(nexus: Nexus, settings: RateLimitSettings) -> Callable[[], Counters]:
    """Return what makes counters, each with a memory of its own: one can't crowd out what another keeps."""
    strategy, max_keys = settings.rate_limit_strategy, settings.rate_limit_max_keys
    store = nexus.store(settings.rate_limit_backend, "rate_limit_backend")
    if store.name == MEMORY:
        return lambda: LocalCounters(strategy, max_keys)
    if not isinstance(store, CountingStore):
        option = "rate_limit_backend" if settings.rate_limit_backend else "store"
        hint = "" if settings.rate_limit_backend else f": set rate_limit_backend to {MEMORY} or another store"
        raise ConfigurationError(f"{option}: the store {store.name!r} can't count calls{hint}.")
    outage = Outage(store.name)

    def make() -> Counters:
        return SharedCounters(store, strategy, LocalCounters(strategy, max_keys), outage, Spent(max_keys))

    return make
