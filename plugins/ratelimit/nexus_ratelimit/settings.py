"""Options of the plugin ``ratelimit``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from nexus_core import PluginSettings
from nexus_ratelimit.limits import MAX_CALLS

if TYPE_CHECKING:
    from nexus_ratelimit.budgets import Budgets


class RateLimitSettings(PluginSettings):
    """How many calls each caller may make, and how callers behind proxies are told apart."""

    policies: ClassVar[dict[str, str]] = {
        "rate_limit": "enable_rate_limiting",
        "rate_limit auth": "rate_limit_before_auth",
    }

    services: ClassVar[dict[str, str | None]] = {"rate_limiter": "enable_rate_limiting"}

    workflow_metadata: ClassVar[dict[str, str | None]] = {"rate_limit": "enable_rate_limiting"}

    enable_rate_limiting: bool = Field(False, description="Refuse the calls of those who make too many.")
    rate_limit_per_minute: int = Field(
        600, ge=1, le=MAX_CALLS, description="Calls that each caller may make in a minute, on all channels together."
    )
    rate_limit_strategy: Literal["sliding_window", "moving_window", "fixed_window"] = Field(
        "sliding_window", description="How a minute is measured: sliding_window, moving_window or fixed_window."
    )
    rate_limit_before_auth: bool = Field(
        False,
        description="Count calls before anybody asks who the caller is: by address alone, also those that are refused.",
    )
    rate_limit_backend: str | None = Field(
        None, description="The store in which calls are counted: memory, redis, ...; none for what store says."
    )
    rate_limit_max_keys: int = Field(
        100_000, ge=1, description="Budgets that are kept in memory; what was used longest ago makes room."
    )
    auth_failures_per_minute: int = Field(
        30, ge=1, le=MAX_CALLS, description="Credentials from one address that may be wrong in a minute."
    )

    @cached_property
    def budgets(self) -> Budgets:
        """What applications take calls from, of the one platform that has these options."""
        from nexus_ratelimit.budgets import Budgets

        return Budgets(self.rate_limit_per_minute, self.rate_limit_strategy)
