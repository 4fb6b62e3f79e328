"""Options of the plugin ``mcp``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, field_validator

from nexus_core.options.settings import PluginSettings, Seconds
from nexus_core.types.addresses import check_origins


class McpSettings(PluginSettings):
    """Port, lists, time limits, sessions and origins of the MCP channel."""

    provides: ClassVar[dict[str, str | None]] = {"stdio": None}

    mcp_port: int = Field(3001, ge=0, le=65535, description="Port of the MCP channel; 0 for any free port.")
    mcp_name: str = Field("nexus", min_length=1, max_length=200, description="Name of the MCP server.")
    enable_tool_discovery: bool = Field(True, description="List the tools. Unlisted tools remain callable.")
    enable_resource_discovery: bool = Field(True, description="List the resources. Unlisted resources remain readable.")
    enable_streaming: bool = Field(
        True,
        description="Send progress, partial results and notifications as streams to clients that request them. If off, "
        "every response is one JSON document.",
    )
    tool_timeout: Seconds | None = Field(
        None, description="Time limit of a tool call in seconds; a shorter limit of the workflow applies."
    )
    mcp_wait: Seconds | None = Field(
        50.0,
        description="Seconds after which a running call returns its run, which continues in the background; none for "
        "never. Most clients time out after 60.",
    )
    mcp_platform_tools: bool = Field(True, description="Offer the tools nexus_runs and nexus_sessions.")
    max_concurrent_sessions: int = Field(
        100,
        ge=1,
        description="Most open sessions. The longest idle one is closed for a new one; if each has an active request, "
        "new ones are refused with 503.",
    )
    mcp_max_sessions_per_caller: int | None = Field(
        None,
        ge=1,
        description="Most open sessions of one caller (a network address, if authentication is off), and most of its "
        "subscriptions/listen streams. Default: half of max_concurrent_sessions.",
    )
    mcp_allowed_origins: Annotated[list[str], AfterValidator(check_origins)] = Field(
        [], description="Origins whose pages may call the channel, such as https://app.example.com; * for all."
    )
    mcp_session_idle_timeout: Seconds = Field(
        1800.0, description="Seconds without a request after which a session is closed."
    )

    @property
    def sessions_per_caller(self) -> int:
        """Most open sessions of one caller."""
        return self.mcp_max_sessions_per_caller or (self.max_concurrent_sessions + 1) // 2

    @field_validator("tool_timeout", "mcp_wait", "mcp_max_sessions_per_caller", mode="before")
    @classmethod
    def _no_limit(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.lower() in ("", "none", "null") else value
