"""Options of the plugin ``hypercorn``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads it)
from typing import ClassVar

from pydantic import Field, SecretStr

from nexus_core.options.sources import MAX_SECONDS, PluginSettings, Seconds


class HypercornSettings(PluginSettings):
    """How the server treats connections."""

    provides: ClassVar[dict[str, str | None]] = {"server": None}

    enable_https: bool = Field(False, description="Whether every port speaks HTTPS, and nothing else.")
    ssl_cert_path: Path | None = Field(None, description="The file with the certificate and its chain, in PEM.")
    ssl_key_path: Path | None = Field(None, description="The file with the certificate's private key, in PEM.")
    ssl_key_password: SecretStr | None = Field(None, description="What the private key is encrypted with.")
    keep_alive_timeout: Seconds = Field(
        5.0, description="Seconds after which an idle connection, or one with half a request head, is closed."
    )
    send_timeout: Seconds = Field(
        30.0, description="Seconds after which a connection whose other side takes nothing is closed (Linux)."
    )
    websocket_ping_interval: Seconds = Field(20.0, description="Seconds between pings on a WebSocket.")
    websocket_max_message_bytes: int = Field(4 * 1024 * 1024, ge=1, description="The largest WebSocket message.")
    drain_seconds: float = Field(
        1.0,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds that open connections get to finish what they send when the process stops.",
    )
