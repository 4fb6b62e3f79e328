"""Options of the plugin ``mcp``."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from nexus_core.options import PluginSettings, Seconds

_FROM_CONFIG = {
    "port": "mcp_port",
    "tool_timeout": "tool_timeout",
    "max_concurrent_sessions": "max_concurrent_sessions",
}


class McpSettings(PluginSettings):
    """Where the channel listens, whom it lets in and how much it takes."""

    mcp_port: int = Field(3001, ge=0, le=65535, description="The channel's port; 0 for any free one.")
    mcp_config: Any = Field(
        None,
        description="An object with `port`, `tool_timeout` and `max_concurrent_sessions`, for what is not set itself.",
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
        100, ge=1, description="Open sessions, and requests without a session, at once; more are refused with 503."
    )
    mcp_allowed_hosts: list[str] = Field(
        [],
        description="Names in the Host header that are answered beside this machine's own, such as mcp.example.com "
        "or mcp.example.com:8443; * for all.",
    )
    mcp_allowed_origins: list[str] = Field(
        [], description="Origins whose pages may call, such as https://app.example.com; * for all."
    )
    mcp_session_idle_timeout: Seconds = Field(
        1800.0, description="Seconds without a request after which a session is closed."
    )

    @field_validator("mcp_config")
    @classmethod
    def _has_members(cls, value: Any) -> Any:
        if value is None or isinstance(value, dict) or hasattr(value, "__dict__"):
            return value
        raise ValueError("must be a mapping, or an object with attributes")

    @field_validator("tool_timeout", "mcp_wait", mode="before")
    @classmethod
    def _no_limit(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.lower() in ("", "none", "null") else value

    @model_validator(mode="before")
    @classmethod
    def _take_from_config(cls, values: Any) -> Any:
        config = values.get("mcp_config") if isinstance(values, dict) else None
        if config is None:
            return values
        members = config if isinstance(config, dict) else getattr(config, "__dict__", {})
        given = {option: members.get(name) for name, option in _FROM_CONFIG.items()}
        return {option: value for option, value in given.items() if value is not None} | values
