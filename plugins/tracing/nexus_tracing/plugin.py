"""Hook implementations of the plugin ``tracing``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Interceptor, Nexus


@hookimpl
def nexus_register_settings() -> type:
    """Give the options of tracing."""
    from nexus_tracing.settings import TracingSettings

    return TracingSettings


@hookimpl
async def nexus_startup(nexus: Nexus) -> None:
    """Begin to make spans, where calls are traced."""
    from nexus_tracing.settings import TracingSettings

    settings = nexus.settings(TracingSettings)
    if settings.enable_tracing:
        await nexus.threads.call(lambda: settings.provider().start())  # it imports a large library


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """Send the last spans."""
    from nexus_tracing.settings import TracingSettings

    settings = nexus.settings(TracingSettings)
    if settings.enable_tracing:
        await nexus.threads.call(settings.provider().stop)


@hookimpl
def nexus_register_interceptors(nexus: Nexus) -> list[Interceptor]:
    """Give the stages that trace calls, where they are to be."""
    from nexus_tracing.settings import TracingSettings

    settings = nexus.settings(TracingSettings)
    if not settings.enable_tracing:
        return []
    from nexus_tracing.tracing import Tracing, marks

    tracing = Tracing(
        settings.provider(),
        ratio=settings.tracing_sample_ratio,
        trusts_parent=settings.tracing_trust_parent,
        hands_on=bool(settings.tracing_instrument),
    )
    return [tracing, *marks(nexus)]
