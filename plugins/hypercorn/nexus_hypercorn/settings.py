"""Options of the plugin ``hypercorn``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads it)
from typing import ClassVar

from pydantic import Field, SecretStr

from nexus_core.options.settings import MAX_SECONDS, PluginSettings, Seconds


class HypercornSettings(PluginSettings):
    """TLS, time limits and sizes of connections."""

    provides: ClassVar[dict[str, str | None]] = {"server": None}

    enable_https: bool = Field(False, description="Serve HTTPS, and nothing else, on every port.")
    ssl_cert_path: Path | None = Field(None, description="File with the certificate and its chain, in PEM format.")
    ssl_key_path: Path | None = Field(None, description="File with the private key of the certificate, in PEM format.")
    ssl_key_password: SecretStr | None = Field(None, description="Password of the private key, if it is encrypted.")
    keep_alive_timeout: Seconds = Field(
        5.0, description="Seconds after which an idle connection, or one with an incomplete request head, is closed."
    )
    send_timeout: Seconds = Field(
        30.0, description="Seconds after which a connection is closed whose peer does not read (Linux)."
    )
    websocket_ping_interval: Seconds = Field(20.0, description="Seconds between pings on a WebSocket connection.")
    websocket_max_message_bytes: int = Field(4 * 1024 * 1024, ge=1, description="Largest WebSocket message in bytes.")
    drain_seconds: float = Field(
        1.0,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds for open connections to finish their responses when the process stops.",
    )
