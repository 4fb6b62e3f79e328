"""Options of the plugin ``pools``, and the pools that they mean."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

from nexus_toolkit.redaction import option_secrets
from pydantic import Field, SecretStr, field_validator

from nexus_core.options.settings import PluginSettings, Seconds
from nexus_pools.database import DatabasePool, refuse_what_is_no_address
from nexus_pools.web import HttpPool

if TYPE_CHECKING:
    from nexus_toolkit.pools import Pool


class PoolsSettings(PluginSettings):
    """Where PostgreSQL is, and how many connections there may be."""

    services: ClassVar[dict[str, str | None]] = {"db_pool": "postgres_url", "http_pool": None}

    postgres_url: SecretStr | None = Field(
        None,
        description="Where PostgreSQL is: postgresql://user:password@host:5432/database. POSTGRES_URL says it too.",
        json_schema_extra={"environment": "POSTGRES_URL"},
    )
    db_pool_size: int = Field(20, ge=0, description="Connections that stay open when they have nothing to do.")
    db_pool_max_connections: int = Field(100, ge=1, description="Connections to PostgreSQL at most.")
    db_pool_timeout: Seconds = Field(30.0, description="Seconds to wait for a connection to PostgreSQL.")
    http_pool_size: int = Field(50, ge=0, description="Connections to HTTP servers that stay open without work.")
    http_pool_max_connections: int = Field(200, ge=1, description="HTTP requests under way at most.")
    http_pool_timeout: Seconds = Field(
        15.0, description="Seconds that a request waits for its turn, a connection, and each part of the answer."
    )

    @field_validator("postgres_url", mode="after")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            refuse_what_is_no_address(value.get_secret_value().strip())
        return value

    @cached_property
    def database(self) -> DatabasePool | None:
        """The pool of the one platform that these are the options of, where ``postgres_url`` is set."""
        if self.postgres_url is None:
            return None
        return DatabasePool(
            self.postgres_url.get_secret_value().strip(),
            [secret for each in option_secrets([self]) for secret in (each, unquote(each))],
            size=self.db_pool_size,
            max_connections=self.db_pool_max_connections,
            timeout=self.db_pool_timeout,
        )

    @cached_property
    def web(self) -> HttpPool:
        """The pool for HTTP."""
        return HttpPool(
            size=self.http_pool_size, max_connections=self.http_pool_max_connections, timeout=self.http_pool_timeout
        )

    @cached_property
    def pools(self) -> dict[str, Pool[Any]]:
        """Every pool there is, by name."""
        return {pool.name: pool for pool in (self.database, self.web) if pool is not None}
