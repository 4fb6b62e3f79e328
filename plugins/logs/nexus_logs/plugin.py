"""Hook implementations of the plugin ``logs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl

if TYPE_CHECKING:
    import logging

    from nexus_core import Interceptor, Nexus
    from nexus_core.types.measurement import Measurement


@hookimpl
def nexus_register_settings() -> type:
    """Give the options of logs."""
    from nexus_logs.settings import LogSettings

    return LogSettings


@hookimpl
def nexus_register_log_handlers(nexus: Nexus) -> list[logging.Handler]:
    """Give what shows records on stderr."""
    from nexus_logs.build import log_handler
    from nexus_logs.settings import LogSettings

    return [log_handler(nexus, nexus.settings(LogSettings))]


@hookimpl
def nexus_register_interceptors(nexus: Nexus) -> list[Interceptor]:
    """Give the stages that write down calls, those that are switched on."""
    from nexus_logs.build import stages
    from nexus_logs.settings import LogSettings

    return stages(nexus, nexus.settings(LogSettings))


@hookimpl
def nexus_register_measurements(nexus: Nexus) -> list[Measurement]:
    """Give how the audit log keeps up, where there is one."""
    from nexus_logs.build import measurements
    from nexus_logs.settings import LogSettings

    return measurements(nexus.settings(LogSettings))


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """Write the rest of the audit log."""
    from nexus_logs.settings import LogSettings

    await nexus.threads.call(nexus.settings(LogSettings).audit.close)
