"""Options of the plugin ``api``."""

from __future__ import annotations

from pydantic import Field

from nexus_core.options import PluginSettings, Seconds


class ApiSettings(PluginSettings):
    """Where the channel listens and what browsers may do with it."""

    api_port: int = Field(8000, ge=0, le=65535, description="The channel's port; 0 for any free one.")
    cors_origins: list[str] = Field(
        [], description="Origins whose pages may call the API, such as https://app.example.com; * for all."
    )
    api_allowed_hosts: list[str] = Field(
        [],
        description="Names in the Host header that are answered beside this machine's own where only this machine is "
        "listened on, such as api.example.com from a proxy; * for all.",
    )
    compression_level: int = Field(
        4, ge=0, le=9, description="How hard answers of 1 KiB and more are compressed; 0 for not at all."
    )
    event_heartbeat: Seconds = Field(15.0, description="Seconds of silence after which an event stream says so.")
    websocket_calls: int = Field(100, ge=1, description="Calls that one WebSocket may have under way.")
