"""Options of the plugin ``sessions``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads it)
from typing import Any, ClassVar

from pydantic import Field, field_validator

from nexus_core.options.settings import PluginSettings, Seconds


class SessionSettings(PluginSettings):
    """The store, the lifetime and the size of sessions."""

    provides: ClassVar[dict[str, str | None]] = {"session manager": None}

    enable_sessions: bool = Field(True, description="Enable sessions.")
    session_backend: str | None = Field(
        None, description="Store of the sessions. Default: the store that the option store names."
    )
    session_ttl: Seconds = Field(3600.0, description="Lifetime of an unused session, in seconds.")
    session_cleanup_interval: Seconds = Field(300.0, description="Seconds between two searches for expired sessions.")
    session_max_bytes: int = Field(64 * 1024, ge=2, description="Maximum size of a session's state, in bytes of JSON.")
    session_manager_timeout: Seconds = Field(
        5.0, description="Time limit for each method of a session manager, in seconds."
    )
    sqlite_path: Path | None = Field(
        None, description="File of the store sqlite. Default: nexus/state.db in the user's state directory."
    )
    sqlite_caller_max_entries: int = Field(
        1_000_000,
        ge=1,
        description="Maximum number of values of each kind of state that one caller may have in SQLite.",
    )
    sqlite_caller_max_bytes: int = Field(
        256 * 1024 * 1024, ge=1, description="Maximum bytes of each kind of state that one caller may have in SQLite."
    )

    @field_validator("session_backend", "sqlite_path", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value
