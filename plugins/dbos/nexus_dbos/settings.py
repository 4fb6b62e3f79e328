"""Options of the plugin ``dbos``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads it)
from typing import Any, ClassVar

from nexus_toolkit.postgres_address import check_address
from pydantic import Field, SecretStr, field_validator

from nexus_core.options.settings import PluginSettings, Seconds
from nexus_dbos.cipher import keys_of


class DbosSettings(PluginSettings):
    """Where the run engine ``dbos`` keeps the work of durable runs, and how much of it this process does at once."""

    provides: ClassVar[dict[str, str | None]] = {"run engine dbos": None}

    dbos_sqlite_path: Path | None = Field(
        None,
        description="File of the run engine dbos. Default: nexus/dbos.db in the user's state directory.",
    )
    dbos_postgres_url: SecretStr | None = Field(
        None,
        description="PostgreSQL URL of the run engine dbos, which otherwise uses a file. Also POSTGRES_URL.",
        json_schema_extra={"environment": "POSTGRES_URL"},
    )
    dbos_postgres_schema: str = Field(
        "nexus_dbos",
        pattern="^[a-z_][a-z0-9_]{0,39}$",
        description="PostgreSQL schema of the tables. It is created if it is missing.",
    )
    dbos_encryption_key: SecretStr | None = Field(
        None,
        description="Key that encrypts tasks and outcomes of durable runs: 32 random bytes as base64. Of several with "
        "commas between them, the first encrypts and all decrypt.",
    )
    dbos_poll_seconds: Seconds = Field(
        0.05, description="Pause between two looks for durable runs to work on, in seconds."
    )

    @field_validator("dbos_sqlite_path", "dbos_postgres_url", "dbos_encryption_key", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("dbos_encryption_key", mode="after")
    @classmethod
    def _is_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            keys_of(value.get_secret_value())
        return value

    @field_validator("dbos_postgres_url", mode="after")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_address(value.get_secret_value().strip())
        return value
