"""The options of the plugin ``metrics``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads it)
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PrivateAttr, SecretStr, field_validator

from nexus_core.options.settings import PluginSettings, Seconds

if TYPE_CHECKING:
    from nexus_core import Nexus
    from nexus_metrics.monitor import Monitor

PROMETHEUS, OTLP = "prometheus", "otlp"


class MetricsSettings(PluginSettings):
    """Whether metrics are kept, and who may have them."""

    services: ClassVar[dict[str, str | None]] = {"metrics_collector": "enable_metrics"}

    enable_monitoring: bool = Field(False, description="Whether metrics are kept.")
    enable_metrics: bool = Field(False, description="Another name of `enable_monitoring`: one of them is enough.")
    metrics_backend: list[str] | None = Field(
        None,
        description="`prometheus`: they are read on `metrics_port`; `otlp`: they are sent; or both. Unless it is said, "
        "`prometheus`, and `otlp` where there is a `monitoring_service_url`.",
    )
    metrics_port: int = Field(9090, ge=0, le=65535, description="The port that Prometheus reads; 0 for any free one.")
    metrics_token: SecretStr | None = Field(None, description="What Prometheus must send as a bearer token.")
    metrics_multiprocess_dir: Path | None = Field(
        None, description="A folder in which processes of one machine leave their numbers, so that they add up."
    )
    monitoring_service_url: str | None = Field(
        None,
        description="Where `otlp` sends metrics: the base address of an OpenTelemetry collector.",
        json_schema_extra={"environment": "OTEL_EXPORTER_OTLP_ENDPOINT"},
    )
    monitoring_service_token: SecretStr | None = Field(None, description="What is sent there as a bearer token.")
    metrics_push_interval: Seconds = Field(15.0, description="Seconds between two times that metrics are sent.")

    _monitor: Monitor | None = PrivateAttr(None)

    @field_validator("metrics_backend", mode="after")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        if value is None:
            return None
        unknown = sorted(set(value) - {PROMETHEUS, OTLP})
        if unknown or not value:
            raise ValueError(f"must be {PROMETHEUS}, {OTLP} or both, not {', '.join(unknown) or 'nothing'}")
        return value

    @property
    def backends(self) -> list[str]:
        """How metrics get out."""
        if self.metrics_backend is not None:
            return self.metrics_backend
        return [PROMETHEUS] if self.monitoring_service_url is None else [PROMETHEUS, OTLP]

    @property
    def is_on(self) -> bool:
        """Whether metrics are kept."""
        return self.enable_monitoring or self.enable_metrics

    def monitor(self, nexus: Nexus) -> Monitor:
        """Return the metrics of the one platform that these are the options of."""
        if self._monitor is None:
            from nexus_metrics.monitor import Monitor

            self._monitor = Monitor(nexus)
        return self._monitor
