"""Options of the plugin ``breaker``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nexus_core import MetadataKey, PluginSettings
from nexus_core.options.settings import MAX_SECONDS

CIRCUIT_OPENED = "circuit.opened"
CIRCUIT_CLOSED = "circuit.closed"


class BreakerSettings(PluginSettings):
    """The circuit breaker for workflows."""

    workflow_metadata: ClassVar[dict[str, MetadataKey]] = {
        "circuit_breaker": MetadataKey("False for no circuit, or a mapping with its rules.", "enable_circuit_breaker")
    }
    event_types: ClassVar[dict[str, str]] = {
        CIRCUIT_OPENED: "The circuit of a workflow has opened. `data`: `failures` and `seconds`.",
        CIRCUIT_CLOSED: "The circuit of a workflow has closed again.",
    }

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
