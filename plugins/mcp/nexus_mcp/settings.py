"""Options of the plugin ``mcp``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, field_validator

from nexus_core.options.settings import PluginSettings, Seconds
from nexus_core.types.addresses import check_origins


class McpSettings(PluginSettings):
    """Where the channel listens, whom it lets in and how much it takes."""

    provides: ClassVar[dict[str, str | None]] = {"stdio": None}

    mcp_port: int = Field(3001, ge=0, le=65535, description="The channel's port; 0 for any free one.")
    mcp_name: str = Field("nexus", min_length=1, max_length=200, description="What the server calls itself.")
    enable_tool_discovery: bool = Field(
        True, description="List the tools; without it they can be called by those who know their names."
    )
    enable_resource_discovery: bool = Field(
        True, description="List the resources; without it they can be read by those who know their addresses."
    )
    enable_streaming: bool = Field(
        True,
        description="Answer with streams of progress, partial results and changes where clients ask for them; without "
        "it, every answer is one JSON document.",
    )
    tool_timeout: Seconds | None = Field(
        None, description="Seconds a tool call may take; a workflow's own shorter limit holds."
    )
    mcp_wait: Seconds | None = Field(
        50.0,
        description="Seconds after which a call that still runs is answered with its run, which goes on; none for "
        "never. Clients give up after 60, most of them.",
    )
    mcp_platform_tools: bool = Field(True, description="Show models the tools nexus_runs and nexus_sessions.")
    max_concurrent_sessions: int = Field(
        100,
        ge=1,
        description="Open sessions at once. The one that is idle for longest makes room for a new one; while each has "
        "a request under way, new ones are refused with 503.",
    )
    mcp_max_sessions_per_caller: int | None = Field(
        None,
        ge=1,
        description="Open sessions of one caller at once (a network address, where authentication is off), and its "
        "subscriptions/listen streams. Default: half of max_concurrent_sessions.",
    )
    mcp_allowed_origins: Annotated[list[str], AfterValidator(check_origins)] = Field(
        [], description="Origins whose pages may call, such as https://app.example.com; * for all."
    )
    mcp_session_idle_timeout: Seconds = Field(
        1800.0, description="Seconds without a request after which a session is closed."
    )

    @property
    def sessions_per_caller(self) -> int:
        """Sessions of one caller at once."""
        return self.mcp_max_sessions_per_caller or (self.max_concurrent_sessions + 1) // 2

    @field_validator("tool_timeout", "mcp_wait", "mcp_max_sessions_per_caller", mode="before")
    @classmethod
    def _no_limit(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.lower() in ("", "none", "null") else value
