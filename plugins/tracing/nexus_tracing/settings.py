"""The options of the plugin ``tracing``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PrivateAttr, SecretStr

from nexus_core.options.settings import PluginSettings, Seconds

if TYPE_CHECKING:
    from nexus_tracing.provider import Provider


class TracingSettings(PluginSettings):
    """Whether calls are traced, and where traces go."""

    enable_tracing: bool = Field(False, description="Whether calls are traced.")
    tracing_endpoint: str = Field(
        "http://127.0.0.1:4318",
        description="The base address of an OpenTelemetry collector that takes OTLP by HTTP.",
        json_schema_extra={"environment": "OTEL_EXPORTER_OTLP_ENDPOINT"},
    )
    tracing_token: SecretStr | None = Field(None, description="What is sent there as a bearer token.")
    tracing_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="The part of the calls that is traced, where the caller does not decide."
    )
    tracing_trust_parent: bool = Field(
        True, description="Whether callers decide, by their traceparent, that a call is traced or is not."
    )
    tracing_push_interval: Seconds = Field(5.0, description="Seconds between two times that traces are sent.")
    tracing_instrument: list[str] = Field(
        [], description="Installed instrumentations of OpenTelemetry to switch on, such as requests or httpx."
    )

    _provider: Provider | None = PrivateAttr(None)

    def provider(self) -> Provider:
        """Return what makes spans, of the one platform that these are the options of."""
        if self._provider is None:
            from nexus_tracing.provider import Provider

            self._provider = Provider(self)
        return self._provider
