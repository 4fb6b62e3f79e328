"""Options of the plugin ``api``."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  (pydantic reads it)
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from nexus_core.options.sources import PluginSettings, Seconds
from nexus_core.text import nearest, printable
from nexus_core.types.addresses import check_origins

MIDDLEWARE = ("cors", "rate_limit", "auth", "compression", "logging")
"""Names that ``api_middleware`` may have."""


class ApiSettings(PluginSettings):
    """Where the channel listens and what browsers may do with it."""

    provides: ClassVar[dict[str, str | None]] = {"channel": None}

    api_port: int = Field(8000, ge=0, le=65535, description="The channel's port; 0 for any free one.")
    api_name: str = Field("Nexus", min_length=1, max_length=200, description="The title of the API's documentation.")
    api_middleware: list[str | Callable[[Any], Any]] = Field(
        ["compression", "cors"],
        description="What stands in front of the API, the first outermost: cors, compression, logging, functions that "
        "take an ASGI application and return one; auth and rate_limit switch those policies on, for every channel.",
        json_schema_extra={"lists_policies": True},
    )
    cors_origins: Annotated[list[str], AfterValidator(check_origins)] = Field(
        [], description="Origins whose pages may call the API, such as https://app.example.com; * for all."
    )
    compression_level: int = Field(
        4, ge=0, le=9, description="How hard answers of 1 KiB and more are compressed; 0 for not at all."
    )
    event_heartbeat: Seconds = Field(15.0, description="Seconds of silence after which an event stream says so.")
    websocket_calls: int = Field(100, ge=1, description="Calls that one WebSocket may have under way.")
    websocket_handshakes: int = Field(
        32, ge=1, description="WebSocket handshakes of one address that may be under way at once."
    )

    @field_validator("api_middleware")
    @classmethod
    def _are_known(cls, value: list[Any]) -> list[Any]:
        for entry in value:
            if isinstance(entry, str) and entry not in MIDDLEWARE:
                near = nearest(entry, MIDDLEWARE)
                hint = f"did you mean {near!r}?" if near else f"there are {', '.join(MIDDLEWARE)}."
                raise ValueError(f"there is no middleware {printable(entry)!r}; {hint}")
            if value.count(entry) > 1:
                raise ValueError(f"{entry!r} is named twice")
        return value

    @model_validator(mode="after")
    def _origins_have_an_effect(self) -> ApiSettings:
        if self.cors_origins and "cors" not in self.api_middleware:
            raise ValueError("cors_origins is set, and api_middleware leaves cors out")
        return self
