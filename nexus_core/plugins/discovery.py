"""Finds plugins in the metadata of installed distributions. Imports none of them; standard library only."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus_core.plugins.requirements import unmet_requirement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

log = logging.getLogger(__name__)

GROUP = "nexus.plugins"
GUARDS = "nexus.guards"
"""The group of entry points ``option = plugin``: where the option is on, nothing starts without the plugin."""

ALWAYS = "always"
"""In place of an option, where that is on by default: nothing starts where the plugin fails, unless it is disabled."""

CORE = "nexus-hub-core"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PluginStatus(StrEnum):
    """Where a plugin stands. Without loading it, the last two can't be told."""

    AVAILABLE = "available"
    DISABLED = "disabled"
    INCOMPATIBLE = "incompatible"
    DUPLICATE = "duplicate"
    ACTIVE = "active"
    FAILED = "failed"


@dataclass(slots=True)
class PluginRecord:
    """A plugin as its metadata describes it, and what became of it.

    Attributes:
        name: The entry point's name.
        version, distribution: Of the distribution that has it.
        target: The module or object that is loaded.
        status: See `PluginStatus`.
        reason: Why it is not active, in a sentence.
        guards: The options that let it guard access, as its metadata declare under `GUARDS`.
        warnings: Problems that do not prevent its use, once loaded.
        hooks: The hooks it implements, once loaded.
        import_ms: Milliseconds its import took, once loaded.
    """

    name: str
    version: str
    distribution: str
    target: str
    status: PluginStatus = PluginStatus.AVAILABLE
    reason: str = ""
    guards: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    import_ms: float | None = None

    @property
    def origin(self) -> str:
        """The distribution that the plugin is from, or the object that an application has given."""
        return self.distribution or self.target

    def to_dict(self) -> dict[str, Any]:
        """Return the record for JSON."""
        return asdict(self) | {"status": str(self.status)}

    def entry_point(self) -> EntryPoint:
        """Return what loads the plugin."""
        return EntryPoint(self.name, self.target, GROUP)


def core_version() -> str:
    """Return the installed version of the core; ``0`` where it runs from a bare source tree."""
    try:
        return version(CORE)
    except PackageNotFoundError:
        return "0"


def discover(disabled: Collection[str] = ()) -> list[PluginRecord]:
    """Return every installed plugin, sorted by name.

    Args:
        disabled: Names that are not to be loaded, in addition to those in the environment's own list.
    """
    off = {*disabled, *disabled_here()}
    found: dict[str, list[PluginRecord]] = defaultdict(list)
    core = core_version()
    for entry_point, owner in installed(GROUP):
        found[_normal(entry_point.name)].append(_record(entry_point, owner, off, core))
    for records in found.values():
        _refuse_rivals([record for record in records if record.status is not PluginStatus.DISABLED])
    return sorted((r for records in found.values() for r in records), key=lambda r: (r.name, r.distribution))


def _refuse_rivals(records: list[PluginRecord]) -> None:
    """Leave out plugins of one name, or of names that differ in case or punctuation alone: one means the other."""
    if len(records) > 1:
        owners = " and ".join(sorted(record.distribution for record in records))
        names = " or ".join(sorted({repr(record.name) for record in records}))
        for record in records:
            record.status, record.reason = PluginStatus.DUPLICATE, f"{owners} both provide {names}"


def is_name(text: str) -> bool:
    """Whether a plugin or a command may have a name: what looks like another one, or obeys to a terminal, may not."""
    return _NAME.fullmatch(text) is not None


def read_models() -> None:
    """Load pydantic where the metadata of some distribution can't be read.

    It searches for its own plugins in all metadata when the first model is made, gives up at the first that is not
    UTF-8, and never looks again.
    """
    try:
        import pydantic.root_model
    except UnicodeDecodeError:
        import pydantic.root_model  # noqa: F401


def installed(group: str, unreadable: list[str] | None = None) -> Iterator[tuple[EntryPoint, Distribution]]:
    """Yield the entry points of a group. Each distribution counts once: the first on the path is the one imported.

    `importlib.metadata.entry_points` would raise for all of them when the metadata of one can't be read.
    """
    seen: set[str] = set()
    for found in distributions():
        try:
            if group not in (found.read_text("entry_points.txt") or ""):
                continue  # most: nothing else of them is read
            name = _normal(_header(found, "Name"))
            first = _first(name, found)
            points = [each for each in first.entry_points if each.group == group]
            if points and not _header(first, "Version"):
                raise ValueError("it has no version")
        except Exception as exc:
            log.warning("The metadata of an installed distribution can't be read (%s): %s", _place(found), exc)
            if unreadable is not None:
                unreadable.append(_place(found))
            continue
        if name not in seen:
            seen.add(name)
            yield from ((point, first) for point in points)


def _first(name: str, found: Distribution) -> Distribution:
    """Return the first distribution of a name on the path."""
    try:
        return distribution(name)
    except (PackageNotFoundError, ValueError):  # its directory is called otherwise, or it has no name
        return found


def _headers(of: Distribution, name: str) -> list[str]:
    """Return the values of a header of a distribution's metadata.

    The standard library would parse all of the metadata each time, the README in it too: most of the time there is.
    """
    text = of.read_text("METADATA") or of.read_text("PKG-INFO") or ""
    top = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
    return [each.strip() for each in re.findall(rf"(?im)^{name}:([^\r\n]*(?:\r?\n[ \t]+[^\r\n]*)*)", top)]


def _header(of: Distribution, name: str) -> str:
    return next(iter(_headers(of, name)), "")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _place(of: Distribution) -> str:
    return str(getattr(of, "_path", "unknown place"))


def _record(entry_point: EntryPoint, distribution: Distribution, off: Collection[str], core: str) -> PluginRecord:
    version, name = _header(distribution, "Version"), _header(distribution, "Name")
    record = PluginRecord(entry_point.name, version, name, entry_point.value)
    own = {each.name for each in distribution.entry_points if each.group == GROUP}
    record.guards = [  # one that names no plugin, by a slip, counts for each of them
        each.name
        for each in distribution.entry_points
        if each.group == GUARDS and (each.value == entry_point.name or each.value not in own)
    ]
    if entry_point.name in off:
        record.status, record.reason = PluginStatus.DISABLED, "disabled by configuration"
    elif not is_name(entry_point.name):
        record.status = PluginStatus.INCOMPATIBLE
        record.reason = "its name has other characters than ASCII letters, digits, '.', '_' and '-'"
    elif unmet := unmet_requirement(_headers(distribution, "Requires-Dist"), CORE, core):
        record.status, record.reason = PluginStatus.INCOMPATIBLE, f"it requires {unmet}, and {core} is installed"
    return record


def disabled_file() -> Path:
    """Return the file that lists the plugins switched off in this Python environment, one name a line."""
    return Path(sys.prefix, "etc", "nexus", "disabled-plugins")


def disabled_here() -> set[str]:
    """Return the plugins that ``NEXUS_DISABLED_PLUGINS`` or the environment's own list switch off."""
    names = os.environ.get("NEXUS_DISABLED_PLUGINS", "").strip("[]").replace('"', "").split(",")
    try:
        names += disabled_file().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        pass  # no list: nothing is switched off
    return {name.strip() for name in names if name.strip()}


def set_disabled(name: str, off: bool) -> None:
    """Add a plugin to the environment's own list, or take it off.

    Raises:
        OSError: The list can't be written.
    """
    path = disabled_file()
    try:
        names = set(path.read_text(encoding="utf-8", errors="replace").split())
    except FileNotFoundError:
        names = set()
    names = names | {name} if off else names - {name}
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.write_text("".join(f"{each}\n" for each in sorted(names)), encoding="utf-8")
    written.replace(path)  # whoever reads meanwhile sees the old list or the new one
