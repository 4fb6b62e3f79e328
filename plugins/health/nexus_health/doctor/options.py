"""The options that are set, where, and what they lead to."""

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
"""Characters of a value that are shown."""

CONFIG_FILE = "NEXUS_CONFIG_FILE"


def options(nexus: Nexus) -> Iterator[Finding]:
    """Look at the options of a platform."""
    given = [option for option in every_option(nexus) if option.source is not None]
    for option in given:
        yield Finding("options", option.name, f"{printable(str(option.value), LONGEST)} ({option.source})")
    if not given:
        yield Finding("options", "none", "every option is at its default")
    file = os.environ.get(CONFIG_FILE)
    yield from config_file(
        has_secrets=any(each.value == HIDDEN and each.source == f"{each.name} in {file}" for each in given)
    )
    yield from _exposure(nexus)


def given_variables() -> Iterator[Finding]:
    """Say which variables are set, where options can't be read. Their values may be secrets."""
    names = [name for name in sorted(os.environ) if name.upper().startswith(ENV_PREFIX) and name not in RESERVED]
    for name in names:
        yield Finding("options", name.lower().removeprefix(ENV_PREFIX.lower()), f"set (environment variable {name})")


def config_file(*, has_secrets: bool = False) -> Iterator[Finding]:
    """Look at the file that the environment names.

    Args:
        has_secrets: Whether it sets an option that is one.
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
        yield warning("options", "configuration file", f"{name}: everybody may write to it", f"chmod o-w {name}")
    elif has_secrets and found.st_mode & stat.S_IROTH:
        text = f"{name}: every user of this machine can read it, and it holds a secret"
        yield warning("options", "configuration file", text, f"chmod o-r {name}")
    else:
        yield Finding("options", "configuration file", name)


def _exposure(nexus: Nexus) -> Iterator[Finding]:
    """Look whether others reach the platform, and whether they are asked who they are."""
    host = nexus.options.host
    if is_loopback(host):
        yield Finding("exposure", host, "only this machine reaches it")
    elif nexus.guards or Stage.AUTHENTICATE in nexus.stages:
        yield Finding("exposure", host, "others reach it, and are asked who they are")
    elif nexus.options.insecure:
        yield warning(
            "exposure", host, "it is reachable from other machines, and authentication is off (insecure)",
            "make sure that something in front asks, or set enable_auth",
        )  # fmt: skip
    else:
        yield problem(
            "exposure", host, "others could reach it without being asked who they are: it does not start so",
            "set enable_auth=True (pip install nexus-hub-auth), host=127.0.0.1, or insecure=True",
        )  # fmt: skip
