"""`Budgets`: takes calls from callers' budgets for code that is not called through a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.errors import ConfigurationError
from nexus_core.pipeline.invocation import Invocation
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from nexus_core.types.principal import Principal, RateLimit
    from nexus_ratelimit.limiter import RateLimiter


class Budgets:
    """What `Nexus.rate_limiter` is: an application's own routes share their callers' budgets with the workflows.

    Attributes:
        limit: Calls that each caller may make in a minute.
        strategy: How a minute is measured.
    """

    def __init__(self, limit: int, strategy: str) -> None:
        self.limit = limit
        self.strategy = strategy
        self._limiter: RateLimiter | None = None

    def use(self, limiter: RateLimiter) -> None:
        """Count with what counts the calls of workflows. Called at each start."""
        self._limiter = limiter

    async def take(self, principal: Principal | None = None, address: str | None = None) -> RateLimit:
        """Take a call from a caller's budget, and return what is left of it.

        Args:
            principal: Who calls, if that is known.
            address: Where from: who is not known has a budget by address.

        Raises:
            RateLimited: The budget is used up.
            ConfigurationError: The platform has not been started, or nothing tells who calls.
        """
        if self._limiter is None:
            raise ConfigurationError("Calls are not counted before the platform is started.")
        if principal is None and address is None:
            raise ConfigurationError("take() needs a principal or an address.")
        if self._limiter.is_before_auth:
            if address is None:
                raise ConfigurationError(
                    "take() needs an address: with rate_limit_before_auth, callers are told by it."
                )
            principal = None
        caller = Invocation("", None, principal=principal, client_address=address)
        await self._limiter(caller, _nothing)
        assert caller.rate_limit is not None
        return caller.rate_limit


async def _nothing(_: Invocation) -> Result:
    return Result(b"null", "")
