"""Hook implementations of the plugin ``breaker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Nexus
    from nexus_core.pipeline.stage import Interceptor
    from nexus_core.types.measurement import Measurement


@hookimpl
def nexus_register_settings() -> type:
    """Give the breaker's options."""
    from nexus_breaker.settings import BreakerSettings

    return BreakerSettings


@hookimpl
def nexus_register_interceptors(nexus: Nexus) -> list[Interceptor]:
    """Give the breaker, where it is switched on."""
    from nexus_breaker.settings import BreakerSettings

    settings = nexus.settings(BreakerSettings)
    if not settings.enable_circuit_breaker:
        return []
    from nexus_breaker.build import build

    settings.built[:] = [build(nexus, settings)]
    return [*settings.built]


@hookimpl
def nexus_register_measurements(nexus: Nexus) -> list[Measurement]:
    """Give how each circuit stands, where there are some."""
    from nexus_breaker.settings import BreakerSettings

    settings = nexus.settings(BreakerSettings)
    if not settings.enable_circuit_breaker:
        return []
    from nexus_breaker.build import measurements

    return measurements(nexus, settings)


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """End what goes on beside calls."""
    from nexus_breaker.settings import BreakerSettings

    await nexus.settings(BreakerSettings).tasks.close()
