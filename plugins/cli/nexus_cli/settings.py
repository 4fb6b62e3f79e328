"""Options of the plugin ``cli``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nexus_core import PluginSettings


class CliSettings(PluginSettings):
    """Where a running server listens for command lines, and how command lines are to people."""

    services: ClassVar[dict[str, str | None]] = {"command_line": None}

    cli_port: int = Field(8001, ge=0, le=65535, description="The channel's port; 0 for any free one.")
    cli_name: str = Field(
        "nexus", min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$", description="The prompt of `nexus shell`."
    )
    enable_shell_completion: bool = Field(True, description="Complete words in shells and in `nexus shell`.")
    enable_history: bool = Field(True, description="Keep what is typed in `nexus shell`, to be found again.")
    history_size: int = Field(1000, ge=1, le=1_000_000, description="Lines of history that are kept.")
    enable_colors: bool = Field(True, description="Write in colour on a terminal that has some.")
    enable_progress_bars: bool = Field(True, description="Show the progress of runs as bars on a terminal.")
