"""The options, their sources, and their consequences."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_toolkit.option_list import options as every_option
from nexus_toolkit.redaction import HIDDEN

from nexus_core.options.settings import ENV_PREFIX
from nexus_core.options.sources import RESERVED
from nexus_core.pipeline.stage import Stage
from nexus_core.server.listeners import is_loopback
from nexus_core.text import printable
from nexus_health.doctor.findings import Finding, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core.app.nexus import Nexus

LONGEST = 120
"""Characters of a value, at most."""

CONFIG_FILE = "NEXUS_CONFIG_FILE"


def options(nexus: Nexus) -> Iterator[Finding]:
    """Examine the options of a platform."""
    given = [option for option in every_option(nexus) if option.source is not None]
    for option in given:
        yield Finding("options", option.name, f"{printable(str(option.value), LONGEST)} ({option.source})")
    if not given:
        yield Finding("options", "none", "every option has its default")
    file = os.environ.get(CONFIG_FILE)
    yield from config_file(
        has_secrets=any(each.value == HIDDEN and each.source == f"{each.name} in {file}" for each in given)
    )
    yield from _exposure(nexus)


def given_variables() -> Iterator[Finding]:
    """Report the names of the variables that are set, if options can't be read. Values may be secrets."""
    names = [name for name in sorted(os.environ) if name.upper().startswith(ENV_PREFIX) and name not in RESERVED]
    for name in names:
        yield Finding("options", name.lower().removeprefix(ENV_PREFIX.lower()), f"set (environment variable {name})")


def config_file(*, has_secrets: bool = False) -> Iterator[Finding]:
    """Examine the configuration file.

    Args:
        has_secrets: Whether it sets a secret option.
    """
    name = os.environ.get(CONFIG_FILE)
    if not name:
        return
    try:
        found = Path(name).stat()
    except OSError as exc:
        yield problem(
            "options", "configuration file", f"{name}: {exc.strerror}", f"set {CONFIG_FILE} to a file, or unset it"
        )
        return
    if found.st_mode & stat.S_IWOTH:
        yield warning("options", "configuration file", f"{name}: writable for every user", f"chmod o-w {name}")
    elif has_secrets and found.st_mode & stat.S_IROTH:
        text = f"{name}: contains a secret, and is readable for every user of this machine"
        yield warning("options", "configuration file", text, f"chmod o-r {name}")
    else:
        yield Finding("options", "configuration file", name)


def _exposure(nexus: Nexus) -> Iterator[Finding]:
    """Examine whether the platform is reachable from other machines, and authenticates callers."""
    host = nexus.options.host
    if is_loopback(host):
        yield Finding("exposure", host, "reachable from this machine only")
    elif nexus.guards or Stage.AUTHENTICATE in nexus.stages:
        yield Finding("exposure", host, "reachable from other machines; authentication is on")
    elif nexus.options.insecure:
        yield warning(
            "exposure", host, "reachable from other machines, but authentication is off (insecure)",
            "set enable_auth=True, unless an authenticating proxy is in front",
        )  # fmt: skip
    else:
        yield problem(
            "exposure", host, "reachable from other machines, but authentication is off: the start is refused",
            "set enable_auth=True (pip install nexus-hub-auth), host=127.0.0.1, or insecure=True",
        )  # fmt: skip
