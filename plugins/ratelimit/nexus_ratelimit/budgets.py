"""`Budgets`: the callers' budgets, for application code that is not called through a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.errors import ConfigurationError
from nexus_core.pipeline.invocation import Caller
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from nexus_core.types.principal import Principal, RateLimit
    from nexus_ratelimit.limiter import RateLimiter


class Budgets:
    """The service ``rate_limiter``: an application's own routes use the same budgets as workflows.

    Example:
        ``left = await nexus.rate_limiter.take(address=request.client.host)``

    Attributes:
        limit: Calls per minute of each caller.
        strategy: The algorithm.
    """

    def __init__(self, limit: int, strategy: str) -> None:
        self.limit = limit
        self.strategy = strategy
        self._limiter: RateLimiter | None = None

    def use(self, limiter: RateLimiter) -> None:
        """Use the limiter of the workflows' calls. Called at start-up."""
        self._limiter = limiter

    async def take(self, principal: Principal | None = None, address: str | None = None) -> RateLimit:
        """Count a call and return the state of the caller's budget.

        Args:
            principal: The caller, if it is authenticated.
            address: The caller's address, which identifies it if it is not authenticated.

        Raises:
            RateLimited: The limit is exceeded.
            ConfigurationError: The platform has not been started, or both arguments are missing.
        """
        if self._limiter is None:
            raise ConfigurationError("The rate limiter can't be used before the platform is started.")
        if principal is None and address is None:
            raise ConfigurationError("take() needs a principal or an address.")
        if self._limiter.is_before_auth:
            if address is None:
                raise ConfigurationError(
                    "take() needs an address: rate_limit_before_auth identifies callers by address."
                )
            principal = None
        caller = Caller(principal=principal, client_address=address)
        await self._limiter(caller, _nothing)
        assert caller.rate_limit is not None
        return caller.rate_limit


async def _nothing(_: Caller) -> Result:
    return Result(b"null", "")
