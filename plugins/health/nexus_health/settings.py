"""Options of the plugin ``health``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator

from nexus_core.options.settings import MAX_SECONDS, PluginSettings, Seconds

HEALTH_CHANGED = "health.changed"


class HealthSettings(PluginSettings):
    """Options of health checks."""

    event_types: ClassVar[dict[str, str]] = {
        HEALTH_CHANGED: "The status of a health check has changed. `data`: `check`, `status`, `critical` and `error`.",
    }

    enable_health_checks: bool = Field(True, description="Run health checks and serve `/health`.")
    health_check_interval: float = Field(30.0, ge=0.1, le=MAX_SECONDS, description="Seconds between health checks.")
    health_check_timeout: Seconds = Field(5.0, description="Time limit of a health check, in seconds.")
    health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Additional port for `/health/live` and `/health/ready`, served by a thread; none for no port.",
    )
    health_non_critical: list[str] = Field([], description="Health checks that do not affect readiness.")

    @field_validator("health_port", mode="before")
    @classmethod
    def _no_port(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.lower() in ("", "none", "null") else value
