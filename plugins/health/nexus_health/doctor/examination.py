"""Puts together what is looked at, for an application or a server."""

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
from nexus_health.doctor.ports import of_settings, ports
from nexus_health.doctor.server import of_report, server
from nexus_health.doctor.workflows import workflows
from nexus_health.monitor import Monitor
from nexus_health.settings import HealthSettings
from nexus_health.watched import CheckThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from nexus_core.app.nexus import Nexus

POLL_SECONDS = 0.02
SPARE_SECONDS = 5.0


class Line(Protocol):
    """The command line that doctor is called from."""

    def app_name(self) -> str | None:
        """Return the application that is named."""

    def nexus(self) -> Nexus:
        """Return it, loaded."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the event loop of the application, if that is started."""


def of_server(url: str, token: str | None) -> Iterator[Finding]:
    """Look at this machine, and ask a server how it is."""
    yield from environment()
    yield from server(url, token)


def of_application(line: Line) -> Iterator[Finding]:
    """Look at this machine and the application that is named or, if none is, at the installed plugins."""
    yield from environment()
    yield disabled_list()
    try:
        name = line.app_name()
        if name is None:
            from nexus_core.app.nexus import Nexus

            nexus = Nexus()
            yield Finding(
                "application", "none", "no application is named: its options and checks are not looked at",
                advice="nexus doctor --app module:attribute",
            )  # fmt: skip
        else:
            nexus = line.nexus()
            yield Finding("application", name, "it can be loaded")
    except ConfigurationError as exc:
        yield from _without_platform(exc)
    else:
        yield from of_platform(nexus, line.run)


def _without_platform(exc: ConfigurationError) -> Iterator[Finding]:
    """Say what prevents that there is a platform, and look at what can be seen all the same."""
    yield problem("application", "loading", str(exc), _advice(str(exc)))
    manager = manager_without_platform("nexus-doctor")
    manager.load_installed()
    yield from plugins(manager.records)
    yield from given_variables()
    yield from config_file()


def _advice(reason: str) -> str:
    if "pip install" in reason:
        return "do what it says"
    if "No module named" in reason:
        missing = reason.partition("No module named ")[2].strip("'. ").partition("'")[0].partition(".")[0]
        return f"pip install {missing}, or start in the directory that has it"
    if "environment variable" in reason:
        return "set that variable to a value that fits, or unset it"
    if "plugin" in reason:
        return "nexus plugins check says what is wrong with plugins"
    if any(sign in reason for sign in ("there is no file", "names no application", "has no attribute")):
        return "check --app (NEXUS_APP, or app: in the configuration file): MODULE:ATTRIBUTE or FILE.py:ATTRIBUTE"
    if "can't be imported" in reason:
        return "mend the application; python -i FILE.py shows where it fails"
    return "mend what it names"


def of_platform(nexus: Nexus, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Iterator[Finding]:
    """Look at a platform: start it in this process without listening, run its checks once, and stop it.

    Args:
        nexus: The platform. One that is started, as in ``nexus shell``, stays so.
        run: Runs a coroutine.
    """
    findings: list[Finding] = []
    try:
        run(_looked_at(nexus, findings))
    except Exception as exc:  # it is the application's code, too
        findings += [*options(nexus), *workflows(nexus)]
        findings += ports(nexus.options.host, of_settings(nexus.every_settings))
        reason = str(exc) if isinstance(exc, ConfigurationError) else one_line(exc)
        findings.append(problem("application", "starting", reason, _advice(reason)))
    yield from plugins(nexus.plugins.records)
    yield from findings
    yield from files(nexus.every_settings)


async def _looked_at(nexus: Nexus, findings: list[Finding]) -> None:
    async with nullcontext() if nexus.is_ready else nexus:
        found = [*options(nexus), *workflows(nexus)]
        wanted = [(each.port_option or f"{each.name}_port", each.port) for each in nexus.channels]
        listening = [(option, number) for option, number in wanted if number is not None]
        found += await asyncio.to_thread(lambda: list(ports(nexus.options.host, listening)))
        found += of_report(await _report(nexus) | {"failed_plugins": {}})
    findings += found


async def _report(nexus: Nexus) -> dict[str, object]:
    """Return how a platform is, once every check has answered or had its time."""
    is_there = any(isinstance(each, HealthSettings) for each in nexus.every_settings)
    settings = nexus.settings(HealthSettings) if is_there else HealthSettings.model_validate({})
    monitor, own = settings.started.monitor, None
    if monitor is None:  # health checks are switched off, or this plugin is
        monitor = own = Monitor(nexus, settings, CheckThreads())
        own.start()
    begun = time.monotonic()
    try:
        while not monitor.has_settled and time.monotonic() - begun < monitor.longest + SPARE_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        return monitor.report()
    finally:
        if own is not None:
            await own.close()
