"""Options of the plugin ``cli``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nexus_core import PluginSettings


class CliSettings(PluginSettings):
    """The port for command lines, and the preferences of the command line's user."""

    provides: ClassVar[dict[str, str | None]] = {"command line": None}

    services: ClassVar[dict[str, str | None]] = {"command_line": None}

    cli_port: int = Field(8001, ge=0, le=65535, description="Port of the channel; 0 for any free port.")
    cli_name: str = Field(
        "nexus", min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$", description="Prompt of `nexus shell`."
    )
    enable_shell_completion: bool = Field(True, description="Complete words in shells and in `nexus shell`.")
    enable_history: bool = Field(True, description="Store the command history of `nexus shell`.")
    history_size: int = Field(1000, ge=1, le=1_000_000, description="Maximum number of entries in the history.")
    enable_colors: bool = Field(True, description="Write in colour on terminals that support it.")
    enable_progress_bars: bool = Field(True, description="Show progress bars for runs on a terminal.")
