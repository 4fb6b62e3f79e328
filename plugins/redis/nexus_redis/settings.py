"""Options of the plugin ``redis``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from nexus_core import PluginSettings
from nexus_redis.address import parse


class RedisSettings(PluginSettings):
    """Address of Redis, and limits on its use."""

    provides: ClassVar[dict[str, str | None]] = {"store redis": "redis_url"}

    services: ClassVar[dict[str, str | None]] = {"redis_pool": "redis_url"}

    redis_url: SecretStr | None = Field(
        None,
        description="Address of Redis: redis://, rediss://, unix:// or redis+sentinel://. REDIS_URL sets it too.",
        json_schema_extra={"environment": "REDIS_URL"},
    )
    redis_pool_size: int = Field(10, ge=1, description="Connections that stay open while they are unused.")
    redis_pool_max_connections: int = Field(50, ge=1, description="Maximum number of connections.")
    redis_timeout: float = Field(0.3, gt=0, le=60, description="Time limit for each command, in seconds.")
    redis_events_kept: int = Field(10_000, ge=1, description="Approximate number of events in the event log.")
    redis_caller_max_entries: int = Field(
        1_000_000, ge=1, description="Maximum number of values of each kind of state that one caller may have in Redis."
    )
    redis_caller_max_bytes: int = Field(
        256 * 1024 * 1024, ge=1, description="Maximum bytes of each kind of state that one caller may have in Redis."
    )
    redis_key_prefix: str = Field("nexus:", description="Prefix of every key in Redis.")

    @field_validator("redis_url", mode="after")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse(value.get_secret_value())
        return value
