"""The plugin ``tracing``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import Plugin
from nexus_tracing.settings import TracingSettings

if TYPE_CHECKING:
    from nexus_core import Interceptor, Platform
    from nexus_tracing.span_provider import SpanProvider


class TracingPlugin(Plugin[TracingSettings]):
    """Traces calls with OpenTelemetry, and exports the spans by OTLP."""

    def __init__(self, platform: Platform, settings: TracingSettings) -> None:
        super().__init__(platform, settings)
        self._provider: SpanProvider | None = None

    async def startup(self) -> None:
        """Start to make spans."""
        if self.settings.enable_tracing:
            self._provider = await self.platform.threads.call(self._start)  # it imports a large library

    def _start(self) -> SpanProvider:
        from nexus_tracing.span_provider import SpanProvider

        return SpanProvider(self.settings)

    async def shutdown(self) -> None:
        """Export the last spans."""
        provider, self._provider = self._provider, None
        if provider is not None:
            await self.platform.threads.call(provider.stop)

    def nexus_register_interceptors(self) -> list[Interceptor]:
        """Return the stages that trace calls."""
        if self._provider is None:
            return []
        from nexus_tracing.tracing import stages

        return stages(self.platform, self.settings, self._provider)
