"""Options of the plugin ``breaker``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nexus_core import PluginSettings
from nexus_core.options.settings import MAX_SECONDS


class BreakerSettings(PluginSettings):
    """The circuit breaker for workflows."""

    workflow_metadata: ClassVar[dict[str, str | None]] = {"circuit_breaker": "enable_circuit_breaker"}

    enable_circuit_breaker: bool = Field(False, description="Refuse calls of workflows that fail repeatedly.")
    circuit_breaker_failure_threshold: int = Field(
        5, ge=1, description="Consecutive failures that open a workflow's circuit."
    )
    circuit_breaker_reset_timeout: float = Field(
        30.0,
        gt=0,
        le=MAX_SECONDS,
        description="Seconds for which a circuit is open before one call may probe the workflow.",
    )
    circuit_breaker_backend: str | None = Field(
        None, description="Store of the circuits: memory, redis, ... Default: the store that the option store names."
    )
