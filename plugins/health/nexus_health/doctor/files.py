"""The files that options name, and the list of disabled plugins: whether they can be used, and by whom."""

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
"""Free space below which it is soon used up."""


def files(every_settings: Iterable[PluginSettings]) -> Iterator[Finding]:
    """Look at the files that options name."""
    for model in every_settings:
        for name in type(model).model_fields:
            value = getattr(model, name)
            if isinstance(value, Path):
                yield file(name, value.expanduser().absolute())


def file(option: str, path: Path) -> Finding:
    """Look at one file, which need not be there yet."""
    there = _nearest(path)
    if not path.exists():
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            return problem(
                "files", option, f"{path} can't be made in {there}", f"chown or chmod {there}, or set {option}"
            )
        return _space(option, there, f"{path}: not there yet, it can be made")
    if path.is_dir():
        return problem("files", option, f"{path} is a directory", f"set {option} to a file")
    if not os.access(path, os.R_OK):
        return problem("files", option, f"{path} can't be read", f"chown or chmod {path}")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return warning(
            "files", option, f"{path}: every user of this machine gets at it ({mode:o})", f"chmod 600 {path}"
        )
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        return warning("files", option, f"{path} can be read, not changed", f"chown or chmod {path} and {path.parent}")
    return _space(option, path, f"{path}: can be read and changed")


def _space(option: str, where: Path, text: str) -> Finding:
    free = shutil.disk_usage(where).free
    text = f"{text}, {free // (1024 * 1024)} MiB free"
    if free < FREE_BYTES:
        return warning("files", option, text, f"make room on the disk of {where}, or set {option} to another one")
    return Finding("files", option, text)


def disabled_list() -> Finding:
    """Look at the list of plugins that are switched off in this environment."""
    path = disabled_file()
    where = _nearest(path)
    if not os.access(where, os.W_OK):
        return warning(
            "files", "disabled plugins", f"{path} can't be changed by this user",
            "nexus plugins disable needs that; NEXUS_DISABLED_PLUGINS does the same without",
        )  # fmt: skip
    return Finding(
        "files", "disabled plugins", f"{path}{'' if path.exists() else ': not there, none is disabled in it'}"
    )


def _nearest(path: Path) -> Path:
    """Return a path, or the nearest above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
