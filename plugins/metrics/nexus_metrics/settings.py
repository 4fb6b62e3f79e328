"""Options of the plugin ``metrics``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads it)
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from nexus_core.options.settings import PluginSettings, Seconds

PROMETHEUS, OTLP = "prometheus", "otlp"


class MetricsSettings(PluginSettings):
    """Options of metrics."""

    services: ClassVar[dict[str, str | None]] = {"metrics_collector": "enable_metrics"}

    enable_monitoring: bool = Field(False, description="Collect metrics.")
    enable_metrics: bool = Field(False, description="Alias of `enable_monitoring`; either is enough.")
    metrics_backend: list[str] | None = Field(
        None,
        description="`prometheus` (scraped on `metrics_port`), `otlp` (pushed to `monitoring_service_url`), or both. "
        "Default: `prometheus`, and `otlp` if `monitoring_service_url` is set.",
    )
    metrics_port: int = Field(9090, ge=0, le=65535, description="Port for Prometheus scrapes; 0 for any free port.")
    metrics_token: SecretStr | None = Field(None, description="Bearer token that Prometheus must send.")
    metrics_multiprocess_dir: Path | None = Field(
        None, description="Directory in which processes on one machine share their metrics, to be summed."
    )
    monitoring_service_url: str | None = Field(
        None,
        description="Base URL of the OpenTelemetry collector for metrics.",
        json_schema_extra={"environment": "OTEL_EXPORTER_OTLP_ENDPOINT"},
    )
    monitoring_service_token: SecretStr | None = Field(
        None, description="Bearer token for the OpenTelemetry collector."
    )
    metrics_push_interval: Seconds = Field(15.0, description="Seconds between exports of metrics.")

    @field_validator("metrics_backend", mode="after")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        unknown = sorted(set(value or ()) - {PROMETHEUS, OTLP})
        if unknown or value == []:
            raise ValueError(f"must be {PROMETHEUS}, {OTLP} or both, not {', '.join(unknown) or 'nothing'}")
        return value
