"""Options of the plugin ``ratelimit``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from nexus_core import MetadataKey, PluginSettings

MAX_CALLS = 1_000_000_000
"""Maximum of every limit."""


class RateLimitSettings(PluginSettings):
    """Rate limits for each caller."""

    policies: ClassVar[dict[str, str]] = {
        "rate_limit": "enable_rate_limiting",
        "rate_limit auth": "rate_limit_before_auth",
    }

    services: ClassVar[dict[str, str | None]] = {"rate_limiter": "enable_rate_limiting"}

    workflow_metadata: ClassVar[dict[str, MetadataKey]] = {
        "rate_limit": MetadataKey(
            "Limit of the calls of each caller, such as 60 or `100/hour`.", "enable_rate_limiting"
        )
    }

    enable_rate_limiting: bool = Field(False, description="Limit the number of calls of each caller.")
    rate_limit_per_minute: int = Field(
        600, ge=1, le=MAX_CALLS, description="Calls per minute of each caller, on all channels together."
    )
    rate_limit_strategy: Literal["sliding_window", "moving_window", "fixed_window"] = Field(
        "sliding_window", description="Algorithm of the limits: sliding_window, moving_window or fixed_window."
    )
    rate_limit_before_auth: bool = Field(
        False,
        description="Apply the limit per client address, before authentication.",
    )
    rate_limit_backend: str | None = Field(
        None, description="Store of the counters: memory, redis, ... Default: the store that the option store names."
    )
    rate_limit_max_keys: int = Field(
        100_000, ge=1, description="Maximum number of counters in memory; the least recently used are evicted."
    )
    auth_failures_per_minute: int = Field(
        30, ge=1, le=MAX_CALLS, description="Invalid credentials per minute from one address."
    )
