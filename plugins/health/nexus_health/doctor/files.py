"""Files named by options, and the list of disabled plugins: access rights and free space."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_core.plugins.discovery import disabled_file
from nexus_health.doctor.findings import Finding, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nexus_core.options.settings import PluginSettings

FREE_BYTES = 100 * 1024 * 1024
"""Free space below which the disk may soon be full."""


def files(every_settings: Iterable[PluginSettings]) -> Iterator[Finding]:
    """Examine the files named by options."""
    for model in every_settings:
        for name in type(model).model_fields:
            value = getattr(model, name)
            if isinstance(value, Path):
                yield file(name, value.expanduser().absolute())


def file(option: str, path: Path) -> Finding:
    """Examine a file, which need not exist."""
    there = _nearest(path)
    if not path.exists():
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            return problem(
                "files", option, f"{path} can't be created in {there}", f"chown or chmod {there}, or set {option}"
            )
        return _space(option, there, f"{path}: does not exist yet, can be created")
    if path.is_dir():
        return problem("files", option, f"{path} is a directory", f"set {option} to a file")
    if not os.access(path, os.R_OK):
        return problem("files", option, f"{path} can't be read", f"chown or chmod {path}")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return warning(
            "files", option, f"{path}: accessible to every user of this machine ({mode:o})", f"chmod 600 {path}"
        )
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        return warning("files", option, f"{path} is read-only", f"chown or chmod {path} and {path.parent}")
    return _space(option, path, f"{path}: readable and writable")


def _space(option: str, where: Path, text: str) -> Finding:
    free = shutil.disk_usage(where).free
    text = f"{text}, {free // (1024 * 1024)} MiB free"
    if free < FREE_BYTES:
        return warning("files", option, text, f"free space on the disk of {where}, or set {option} to another disk")
    return Finding("files", option, text)


def disabled_list() -> Finding:
    """Examine the list of plugins that are disabled in this environment."""
    path = disabled_file()
    where = _nearest(path)
    if not os.access(where, os.W_OK):
        return warning(
            "files", "disabled plugins", f"{path} is not writable for this user",
            "nexus plugins disable writes it; NEXUS_DISABLED_PLUGINS needs no file",
        )  # fmt: skip
    return Finding("files", "disabled plugins", f"{path}{'' if path.exists() else ': does not exist'}")


def _nearest(path: Path) -> Path:
    """Return a path, or its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
