"""Options of the plugin ``health``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from nexus_core.options.settings import MAX_SECONDS, PluginSettings, Seconds

if TYPE_CHECKING:
    from nexus_health.build import Started


class HealthSettings(PluginSettings):
    """Whether, how often and for how long it is looked how the platform is."""

    enable_health_checks: bool = Field(True, description="Look how the platform is, and answer `/health`.")
    health_check_interval: float = Field(30.0, ge=0.1, le=MAX_SECONDS, description="Seconds from one look to the next.")
    health_check_timeout: Seconds = Field(5.0, description="Seconds that a check gets, unless it says otherwise.")
    health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port on which a thread answers `/health/live` and `/health/ready`; none for no such port.",
    )
    health_non_critical: list[str] = Field([], description="Checks that do not decide whether the platform is ready.")

    @field_validator("health_port", mode="before")
    @classmethod
    def _no_port(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.lower() in ("", "none", "null") else value

    @cached_property
    def started(self) -> Started:
        """What exists of the plugin, for the one platform that these are the options of."""
        from nexus_health.build import Started

        return Started()
