"""Options of the plugin ``sessions``."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from nexus_core.options.sources import PluginSettings, Seconds
from nexus_sessions.sqlite_scoped import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from nexus_sessions.build import Started


class SessionSettings(PluginSettings):
    """Where sessions are kept, and for how long."""

    provides: ClassVar[dict[str, str | None]] = {"session manager": None}

    enable_sessions: bool = Field(True, description="Whether there are sessions at all.")
    session_backend: str | None = Field(
        None, description="The name of the store to keep them in; none for what `store` names."
    )
    session_ttl: Seconds = Field(3600.0, description="Seconds for which an unused session is kept.")
    session_cleanup_interval: Seconds = Field(300.0, description="Seconds between two searches for expired sessions.")
    session_max_bytes: int = Field(64 * 1024, ge=2, description="The largest state of a session, as JSON text.")
    session_manager_timeout: Seconds = Field(5.0, description="Seconds that a method of a session manager may take.")
    sqlite_path: Path | None = Field(
        None, description="The file of the store `sqlite`; none for nexus/state.db in the user's directory for state."
    )

    sqlite_caller_max_entries: int = Field(
        DEFAULT_LIMITS.entries, ge=1, description="Values of each kind of state that one caller may have in that file."
    )
    sqlite_caller_max_bytes: int = Field(
        DEFAULT_LIMITS.bytes, ge=1, description="Bytes of each kind of state that one caller may have in that file."
    )

    @field_validator("session_backend", "sqlite_path", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @property
    def sqlite_limits(self) -> Limits:
        """What one caller may have of each kind of state in the store ``sqlite``."""
        return Limits(self.sqlite_caller_max_entries, self.sqlite_caller_max_bytes)

    @property
    def sqlite_file(self) -> Path:
        """Where the store ``sqlite`` is, by the XDG Base Directory Specification unless an option says otherwise."""
        if self.sqlite_path is not None:
            return self.sqlite_path.expanduser().absolute()
        directory = Path(os.environ.get("XDG_STATE_HOME", ""))
        if not directory.is_absolute():  # as the specification has it
            directory = Path("~/.local/state").expanduser()
        return directory / "nexus" / "state.db"

    @cached_property
    def started(self) -> Started:
        """What exists of the plugin while the one platform that these are the options of is started."""
        from nexus_sessions.build import Started

        return Started()
