"""Options of the plugin ``tracing``."""

from __future__ import annotations

from pydantic import Field, SecretStr

from nexus_core.options.settings import PluginSettings, Seconds


class TracingSettings(PluginSettings):
    """Options of tracing."""

    enable_tracing: bool = Field(False, description="Trace calls.")
    tracing_endpoint: str = Field(
        "http://127.0.0.1:4318",
        description="Base URL of the OpenTelemetry collector, which accepts OTLP over HTTP.",
        json_schema_extra={"environment": "OTEL_EXPORTER_OTLP_ENDPOINT"},
    )
    tracing_token: SecretStr | None = Field(None, description="Bearer token for the OpenTelemetry collector.")
    tracing_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of calls to trace, from 0 to 1, unless the caller's traceparent decides."
    )
    tracing_trust_parent: bool = Field(
        True, description="Honour the sampling decision in the traceparent header of callers."
    )
    tracing_push_interval: Seconds = Field(5.0, description="Seconds between exports of spans.")
    tracing_instrument: list[str] = Field(
        [], description="Installed OpenTelemetry instrumentations to enable, such as requests or httpx."
    )
