"""Finds files that hide a library from the plugins that need it, such as ``mcp.py`` next to the application.

Python imports what comes first on its path, and an application's folder comes before installed libraries: the plugin
then starts, and fails at its first call. Standard library only: whatever else may be hidden.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections import deque
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_core.plugins.discovery import CORE, PluginStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nexus_core.plugins.discovery import PluginRecord

OWN_PREFIX = "nexus-hub"
PLATFORM, OTHER_PLATFORM = "nexus-hub", "kailash-nexus"
"""Two distributions with the import name ``nexus``."""

_INSTALLED = ("site-packages", "dist-packages")
_ORDINARY = frozenset({"build", "conftest", "docs", "examples", "scripts", "setup", "src", "test", "tests"})
"""Names that projects use for themselves, and that some distributions install by mistake."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def hidden_libraries(records: Iterable[PluginRecord] = ()) -> list[str]:
    """Return a complaint for each file or folder that hides a library which the core or a plugin needs.

    Args:
        records: The plugins; disabled ones need nothing.
    """
    candidates = dict(_candidates())
    if not candidates:
        return []
    complaints: list[str] = []
    for name, user, found in _required(records):
        for library in candidates.keys() & _top_level_names(found):
            path = candidates[library]
            if path.parent != Path(str(found.locate_file(""))).resolve():
                del candidates[library]
                complaints.append(
                    f'{path} hides the library "{library}" ({name}), which {user} needs: give it another name.'
                )
    return complaints


def _candidates() -> Iterator[tuple[str, Path]]:
    """Yield the modules that hide one of the same name among the installed ones, unless that is imported already."""
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    front: list[str] = []
    installed: set[str] = set()
    for each in sys.path:
        if os.path.basename(each) in _INSTALLED:
            installed |= {entry.partition(".")[0] for entry in _entries(each)}
        elif not installed and each not in standard and os.path.dirname(each) not in standard:
            front.append(each or os.getcwd())
    for folder in front:
        for entry in _entries(folder):
            name, _, ending = entry.partition(".")
            path = os.path.join(folder, entry)
            is_module = ending == "py" or (not ending and os.path.isfile(os.path.join(path, "__init__.py")))
            if is_module and name in installed and name not in _ORDINARY and not _is_imported(name, path):
                yield name, Path(path).resolve()


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # an archive, or nothing
        return []


def _is_imported(name: str, path: str) -> bool:
    """Whether a module is imported already, from elsewhere."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and not os.path.realpath(file).startswith(os.path.realpath(path))


def _required(records: Iterable[PluginRecord]) -> Iterator[tuple[str, str, Distribution]]:
    """Yield the libraries that are needed, directly or by others, each with who needs it."""
    waiting = deque([(CORE, "the core")])
    waiting += [
        (record.distribution, f'the plugin "{record.name}"')
        for record in records
        if record.distribution and record.status is not PluginStatus.DISABLED
    ]
    seen: set[str] = set()
    while waiting:
        name, user = waiting.popleft()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
            requires = found.requires or []
        except (PackageNotFoundError, OSError, ValueError):
            continue
        if not name.startswith(OWN_PREFIX):
            yield name, user, found
        needed = [match[0] for line in requires if "extra ==" not in line and (match := _NAME.match(line))]
        waiting += [(re.sub(r"[-_.]+", "-", each).lower(), user) for each in needed]


def _top_level_names(found: Distribution) -> set[str]:
    if (text := found.read_text("top_level.txt")) is not None:
        return set(text.split())
    return {file.parts[0].partition(".")[0] for file in found.files or ()}


def name_clash(package: str | os.PathLike[str] | None = None) -> str | None:
    """Return the error of installing ``kailash-nexus`` together with ``nexus-hub``, or None.

    Args:
        package: A folder ``nexus``: only a clash in that one counts.
    """
    try:
        other = distribution(OTHER_PLATFORM)
        distribution(PLATFORM)
    except PackageNotFoundError:
        return None
    if package is not None and not os.path.realpath(str(other.locate_file("nexus"))) == os.path.realpath(package):
        return None
    return (
        f"{OTHER_PLATFORM} and {PLATFORM} are both installed, and both have the package `nexus`: the later one has "
        f"replaced files of the other. Keep one: pip uninstall -y {OTHER_PLATFORM} {PLATFORM}, and install that again. "
        f"Together with {OTHER_PLATFORM}, without {PLATFORM}, there is `from nexus_core import Nexus`."
    )
