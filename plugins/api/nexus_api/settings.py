"""Options of the plugin ``api``."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  (pydantic reads it)
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from nexus_core.options.settings import PluginSettings, Seconds
from nexus_core.text import nearest, printable
from nexus_core.types.addresses import check_origins

MIDDLEWARE = ("cors", "rate_limit", "auth", "compression", "logging")
"""Names that ``api_middleware`` may list."""


class ApiSettings(PluginSettings):
    """Port, middleware, CORS, compression and limits of the API channel."""

    provides: ClassVar[dict[str, str | None]] = {"channel": None}

    api_port: int = Field(8000, ge=0, le=65535, description="Port of the API; 0 for any free port.")
    api_name: str = Field("Nexus", min_length=1, max_length=200, description="Title of the API documentation.")
    api_middleware: list[str | Callable[[Any], Any]] = Field(
        ["compression", "cors"],
        description="Middleware of the API, outermost first: cors, compression, logging, or functions that take an "
        "ASGI application and return one; auth and rate_limit enable these policies on every channel.",
        json_schema_extra={"lists_policies": True},
    )
    cors_origins: Annotated[list[str], AfterValidator(check_origins)] = Field(
        [], description="Origins whose pages may call the API, such as https://app.example.com; * for all."
    )
    compression_level: int = Field(
        4, ge=0, le=9, description="Compression level of responses of 1 KiB and more; 0 for no compression."
    )
    event_heartbeat: Seconds = Field(
        15.0, description="Seconds without an event after which an event stream sends a heartbeat."
    )
    websocket_calls: int = Field(100, ge=1, description="Concurrent calls of one WebSocket.")
    websocket_handshakes: int = Field(32, ge=1, description="Concurrent WebSocket handshakes of one client address.")

    @field_validator("api_middleware")
    @classmethod
    def _are_known(cls, value: list[Any]) -> list[Any]:
        for entry in value:
            if isinstance(entry, str) and entry not in MIDDLEWARE:
                near = nearest(entry, MIDDLEWARE)
                hint = f"did you mean {near!r}?" if near else f"known are {', '.join(MIDDLEWARE)}."
                raise ValueError(f"unknown middleware {printable(entry)!r}; {hint}")
            if value.count(entry) > 1:
                raise ValueError(f"{entry!r} is listed twice")
        return value

    @model_validator(mode="after")
    def _origins_have_an_effect(self) -> ApiSettings:
        if self.cors_origins and "cors" not in self.api_middleware:
            raise ValueError("cors_origins is set but api_middleware does not list cors")
        return self
