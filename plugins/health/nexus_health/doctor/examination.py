"""Runs the examinations of an application or of a server."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from nexus_core.app.plugin import manager_without_platform
from nexus_core.errors import ConfigurationError
from nexus_core.text import one_line
from nexus_health.doctor.environment import environment
from nexus_health.doctor.files import disabled_list, files
from nexus_health.doctor.findings import Finding, problem
from nexus_health.doctor.options import config_file, given_variables, options
from nexus_health.doctor.plugins import plugins
from nexus_health.doctor.ports import ports, ports_of_options
from nexus_health.doctor.server import findings_of_report, server
from nexus_health.doctor.workflows import workflows
from nexus_health.monitor import HealthMonitor
from nexus_health.monitor_owner import monitor_of
from nexus_health.monitored_check import CheckThreads
from nexus_health.settings import HealthSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from nexus_core.app.nexus import Nexus

POLL_SECONDS = 0.02
SPARE_SECONDS = 5.0


class CommandContext(Protocol):
    """The context in which the command line calls doctor."""

    def app_name(self) -> str | None:
        """Return the name of the application, or None."""

    def nexus(self) -> Nexus:
        """Load and return the application."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine, on the event loop of the application if that is started."""


def examine_server(url: str, token: str | None) -> Iterator[Finding]:
    """Examine this machine and a running server."""
    yield from environment()
    yield from server(url, token)


def examine_application(context: CommandContext) -> Iterator[Finding]:
    """Examine this machine and the application or, if none is named, the installed plugins."""
    yield from environment()
    yield disabled_list()
    try:
        name = context.app_name()
        if name is None:
            from nexus_core.app.nexus import Nexus

            nexus = Nexus()
            yield Finding(
                "application", "none", "no application is named: only installed plugins are examined",
                advice="nexus doctor --app module:attribute",
            )  # fmt: skip
        else:
            nexus = context.nexus()
            yield Finding("application", name, "it can be loaded")
    except ConfigurationError as exc:
        yield from _without_platform(exc)
    else:
        yield from examine_platform(nexus, context.run)


def _without_platform(exc: ConfigurationError) -> Iterator[Finding]:
    """Report why the application can't be loaded, and examine what needs none."""
    yield problem("application", "loading", str(exc), _advice(str(exc)))
    manager = manager_without_platform("nexus-doctor")
    manager.load_installed()
    yield from plugins(manager.records)
    yield from given_variables()
    yield from config_file()


def _advice(reason: str) -> str:
    if "pip install" in reason:
        return "run the command in the message"
    if "No module named" in reason:
        missing = reason.partition("No module named ")[2].strip("'. ").partition("'")[0].partition(".")[0]
        return f"pip install {missing}, or start in the directory that contains it"
    if "environment variable" in reason:
        return "set the variable to a valid value, or unset it"
    if "plugin" in reason:
        return "run nexus plugins check for the reasons"
    if any(sign in reason for sign in ("there is no file", "names no application", "has no attribute")):
        return "check --app (NEXUS_APP, or app: in the configuration file): MODULE:ATTRIBUTE or FILE.py:ATTRIBUTE"
    if "can't be imported" in reason:
        return "fix the application; python -i FILE.py shows where it fails"
    return "fix the reported cause"


def examine_platform(nexus: Nexus, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Iterator[Finding]:
    """Examine a platform: start it in this process without listening, run its checks once, and stop it.

    Args:
        nexus: The platform. One that is started, as in ``nexus shell``, stays so.
        run: Runs a coroutine.
    """
    findings: list[Finding] = []
    try:
        run(_examine_started(nexus, findings))
    except Exception as exc:  # including those of the application
        findings += [*options(nexus), *workflows(nexus)]
        findings += ports(nexus.options.host, ports_of_options(nexus.every_settings))
        reason = str(exc) if isinstance(exc, ConfigurationError) else one_line(exc)
        findings.append(problem("application", "starting", reason, _advice(reason)))
    yield from plugins(nexus.plugins.records)
    yield from findings
    yield from files(nexus.every_settings)


async def _examine_started(nexus: Nexus, findings: list[Finding]) -> None:
    async with nullcontext() if nexus.is_ready else nexus:
        found = [*options(nexus), *workflows(nexus)]
        wanted = [(each.port_option or f"{each.name}_port", each.port) for each in nexus.channels]
        listening = [(option, number) for option, number in wanted if number is not None]
        found += await asyncio.to_thread(lambda: list(ports(nexus.options.host, listening)))
        found += findings_of_report(await _report(nexus) | {"failed_plugins": {}})
    findings += found


async def _report(nexus: Nexus) -> dict[str, object]:
    """Return the health report of a platform, once every check has a result."""
    is_there = any(isinstance(each, HealthSettings) for each in nexus.every_settings)
    settings = nexus.settings(HealthSettings) if is_there else HealthSettings.model_validate({})
    monitor, own = monitor_of(nexus), None
    if monitor is None:  # health checks are off, or this plugin is disabled
        monitor = own = HealthMonitor(nexus, settings, CheckThreads())
        own.start()
    begun = time.monotonic()
    try:
        while not monitor.has_settled and time.monotonic() - begun < monitor.longest + SPARE_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        return monitor.report()
    finally:
        if own is not None:
            await own.close()
