"""Options of the plugin ``redis``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, SecretStr, field_validator

from nexus_core import PluginSettings
from nexus_redis.address import Address, parse
from nexus_redis.scoped import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from nexus_redis.client import RedisClient
    from nexus_redis.workflows import RedisPool


class RedisSettings(PluginSettings):
    """Where Redis is, and how much of it is used."""

    services: ClassVar[dict[str, str | None]] = {"redis_pool": "redis_url"}

    redis_url: SecretStr | None = Field(
        None,
        description="Where Redis is: redis://, rediss://, unix:// or redis+sentinel://. REDIS_URL says it too.",
        json_schema_extra={"environment": "REDIS_URL"},
    )
    redis_pool_size: int = Field(10, ge=1, description="Connections that stay open when they have nothing to do.")
    redis_pool_max_connections: int = Field(50, ge=1, description="Connections at most.")
    redis_timeout: float = Field(0.3, gt=0, le=60, description="Seconds that Redis gets for each answer.")
    redis_events_kept: int = Field(10_000, ge=1, description="Events that are kept for followers, about.")
    redis_caller_max_entries: int = Field(
        DEFAULT_LIMITS.entries, ge=1, description="Values of each kind of state that one caller may have in Redis."
    )
    redis_caller_max_bytes: int = Field(
        DEFAULT_LIMITS.bytes, ge=1, description="Bytes of each kind of state that one caller may have in Redis."
    )
    redis_key_prefix: str = Field("nexus:", description="What every key in Redis begins with.")

    @field_validator("redis_url", mode="after")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse(value.get_secret_value())
        return value

    @property
    def address(self) -> Address:
        """What ``redis_url`` says, where it is set."""
        assert self.redis_url is not None
        return parse(self.redis_url.get_secret_value())

    @property
    def limits(self) -> Limits:
        """What one caller may have of each kind of state."""
        return Limits(self.redis_caller_max_entries, self.redis_caller_max_bytes)

    @cached_property
    def client(self) -> RedisClient:
        """The one client, of the one platform that these are the options of."""
        from nexus_redis.client import RedisClient

        return RedisClient(
            self.address,
            pool_size=self.redis_pool_size,
            max_connections=self.redis_pool_max_connections,
            timeout=self.redis_timeout,
            prefix=self.redis_key_prefix,
        )

    @cached_property
    def pool(self) -> RedisPool:
        """What workflows use, of the one platform that these are the options of."""
        from nexus_redis.workflows import RedisPool

        return RedisPool(
            self.client,
            size=self.redis_pool_size,
            max_connections=self.redis_pool_max_connections,
            timeout=self.redis_timeout,
        )
