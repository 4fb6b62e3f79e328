"""Hook implementations of the plugin ``ratelimit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Interceptor, Nexus


@hookimpl
def nexus_register_settings() -> type:
    """Give the options."""
    from nexus_ratelimit.settings import RateLimitSettings

    return RateLimitSettings


@hookimpl
def nexus_register_services(nexus: Nexus) -> dict[str, object]:
    """Give the budgets, for calls that do not come through a channel."""
    from nexus_ratelimit.settings import RateLimitSettings

    settings = nexus.settings(RateLimitSettings)
    return {"rate_limiter": settings.budgets} if settings.enable_rate_limiting else {}


@hookimpl
def nexus_register_interceptors(nexus: Nexus) -> list[Interceptor]:
    """Give the stages that are switched on."""
    from nexus_ratelimit.settings import RateLimitSettings

    settings = nexus.settings(RateLimitSettings)
    if not settings.enable_rate_limiting:
        return []
    from nexus_ratelimit.build import stages

    return stages(nexus, settings)
