"""Options of the plugin ``pools``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from nexus_core.options.settings import PluginSettings, Seconds
from nexus_pools.address import check_address


class PoolsSettings(PluginSettings):
    """Options of the connection pools."""

    services: ClassVar[dict[str, str | None]] = {"db_pool": "postgres_url", "http_pool": None}

    postgres_url: SecretStr | None = Field(
        None,
        description="PostgreSQL URL, such as postgresql://user:password@host:5432/database. Also POSTGRES_URL.",
        json_schema_extra={"environment": "POSTGRES_URL"},
    )
    db_pool_size: int = Field(20, ge=0, description="Idle PostgreSQL connections that stay open.")
    db_pool_max_connections: int = Field(100, ge=1, description="Maximum PostgreSQL connections.")
    db_pool_timeout: Seconds = Field(30.0, description="Seconds to wait for a PostgreSQL connection.")
    http_pool_size: int = Field(50, ge=0, description="Idle HTTP connections that stay open.")
    http_pool_max_connections: int = Field(200, ge=1, description="Maximum concurrent HTTP requests.")
    http_pool_timeout: Seconds = Field(
        15.0, description="Seconds to wait for a free connection, for connecting, and for each part of a response."
    )

    @field_validator("postgres_url", mode="after")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_address(value.get_secret_value().strip())
        return value
