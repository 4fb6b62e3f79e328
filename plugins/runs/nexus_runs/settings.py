"""Options of the plugin ``runs``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads it)
from typing import Any, ClassVar

from nexus_toolkit.postgres_address import check_address
from pydantic import Field, SecretStr, field_validator

from nexus_core.options.settings import MetadataKey, PluginSettings, Seconds


class RunsSettings(PluginSettings):
    """Where the run stores ``sqlite`` and ``postgres`` keep runs, and what may wait to be written."""

    provides: ClassVar[dict[str, str | None]] = {"run store sqlite": None, "run store postgres": "runs_postgres_url"}

    workflow_metadata: ClassVar[dict[str, MetadataKey]] = {
        "sensitive_parameters": MetadataKey("List of parameters that are not stored with a run.")
    }

    runs_redact: list[str] = Field([], description="Additional names whose values are not stored, such as `iban`.")
    runs_sqlite_path: Path | None = Field(
        None, description="File of the run store sqlite. Default: nexus/runs.db in the user's state directory."
    )
    runs_postgres_url: SecretStr | None = Field(
        None,
        description="PostgreSQL URL of the run store postgres. Also POSTGRES_URL.",
        json_schema_extra={"environment": "POSTGRES_URL"},
    )
    runs_postgres_schema: str = Field(
        "nexus_runs",
        pattern="^[a-z_][a-z0-9_]{0,39}$",
        description="PostgreSQL schema of the tables. It is created if it is missing.",
    )
    runs_postgres_connections: int = Field(
        4, ge=2, description="Maximum connections to PostgreSQL in addition to one that listens for changes."
    )
    runs_postgres_timeout: Seconds = Field(3.0, description="Time limit for a statement in PostgreSQL, in seconds.")
    runs_max_waiting: int = Field(
        10_000, ge=1, description="Maximum number of changes that wait to be written before more are dropped."
    )
    runs_max_waiting_bytes: int = Field(
        32 * 1024 * 1024, ge=1, description="Maximum bytes of changes that wait to be written before more are dropped."
    )

    @field_validator("runs_sqlite_path", "runs_postgres_url", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("runs_postgres_url", mode="after")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_address(value.get_secret_value().strip())
        return value
