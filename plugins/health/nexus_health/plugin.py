"""Hook implementations of the plugin ``health``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_core import Channel, Command, Nexus, Route
    from nexus_core.types.measurement import Measurement
    from nexus_health.monitor import Monitor


@hookimpl
def nexus_register_settings() -> type:
    """Give the options."""
    from nexus_health.settings import HealthSettings

    return HealthSettings


@hookimpl
async def nexus_startup(nexus: Nexus) -> None:
    """Begin to look how the platform is, unless that is switched off."""
    from nexus_health.settings import HealthSettings

    settings = nexus.settings(HealthSettings)
    if settings.enable_health_checks:
        settings.started.begin(nexus, settings)


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """Stop looking."""
    from nexus_health.settings import HealthSettings

    await nexus.settings(HealthSettings).started.end()


@hookimpl
def nexus_register_routes(nexus: Nexus) -> list[Route]:
    """Give ``/health``: on the main port, and on the command line's, where ``nexus doctor --connect`` asks."""
    monitor = _monitor(nexus)
    if monitor is None:
        return []
    from nexus_core import Route
    from nexus_health.routes import PATH, HealthRoutes

    routes = HealthRoutes(nexus, monitor)
    return [Route(PATH, routes, None), Route(PATH, routes, "cli")]


@hookimpl
def nexus_register_channels(nexus: Nexus) -> list[Channel]:
    """Give the port that answers probes apart from the event loop, if there is to be one."""
    from nexus_health.settings import HealthSettings

    settings = nexus.settings(HealthSettings)
    monitor = settings.started.monitor
    if monitor is None or settings.health_port is None:
        return []
    from nexus_health.port import HealthChannel

    return [HealthChannel(nexus, settings.health_port, monitor)]


@hookimpl
def nexus_register_measurements(nexus: Nexus) -> list[Measurement]:
    """Give which checks are healthy, and how long they take."""
    monitor = _monitor(nexus)
    if monitor is None:
        return []
    from nexus_health.measured import measurements

    return measurements(monitor)


@hookimpl
def nexus_register_commands() -> list[Command]:
    """Give ``nexus doctor``: without a platform, for where there can be none."""
    from nexus_health.command import commands

    return commands()


def _monitor(nexus: Nexus) -> Monitor | None:
    from nexus_health.settings import HealthSettings

    return nexus.settings(HealthSettings).started.monitor
