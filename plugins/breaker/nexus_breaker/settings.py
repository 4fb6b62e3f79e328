"""Options of the plugin ``breaker``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nexus_breaker.tasks import Tasks
from nexus_core import PluginSettings
from nexus_core.options.sources import MAX_SECONDS

if TYPE_CHECKING:
    from nexus_breaker.breaker import Breaker


class BreakerSettings(PluginSettings):
    """When a workflow's circuit opens, and for how long."""

    workflow_metadata: ClassVar[dict[str, str | None]] = {"circuit_breaker": "enable_circuit_breaker"}

    enable_circuit_breaker: bool = Field(False, description="Refuse calls of workflows that fail again and again.")
    circuit_breaker_failure_threshold: int = Field(
        5, ge=1, description="Failures in a row after which a workflow's calls are refused."
    )
    circuit_breaker_reset_timeout: float = Field(
        30.0, gt=0, le=MAX_SECONDS, description="Seconds after which one call is let through to try."
    )
    circuit_breaker_backend: str | None = Field(
        None, description="The store in which circuits are shared: memory, redis, ...; none for what store says."
    )

    @cached_property
    def built(self) -> list[Breaker]:
        """The breaker of the latest start, of the one platform that these are the options of."""
        return []

    @cached_property
    def tasks(self) -> Tasks:
        """What goes on beside calls, of the one platform that these are the options of."""
        return Tasks()
