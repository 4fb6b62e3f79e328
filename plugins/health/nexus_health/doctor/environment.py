"""What the process runs on: Python, packages, limits of the system, the clock."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from importlib.metadata import Distribution, distributions
from typing import TYPE_CHECKING

from nexus_core.plugins.discovery import CORE
from nexus_core.plugins.requirements import unmet_requirement
from nexus_core.plugins.shadows import name_clash
from nexus_health.doctor.findings import Finding, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "nexus-hub"
FILES = 1024
"""Open files below which a process that many call may soon have none left."""

EARLIEST = 1_735_689_600
"""The first second of 2025: a clock that is before that has never been set."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def environment() -> Iterator[Finding]:
    """Look at it."""
    yield Finding("python", "version", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding("python", "executable", f"{sys.executable}, on {platform.platform()}")
    installed: dict[str, Distribution] = {}
    for each in reversed([*distributions()]):
        try:
            installed[_normal(each.metadata["Name"] or "")] = each
            each.read_text("entry_points.txt")
        except UnicodeDecodeError as exc:
            place = str(getattr(each, "_path", "an unknown place"))
            yield problem("packages", place, f"its metadata can't be read: {exc}", "remove it, or install it again")
    yield from packages(installed)
    yield from limits()
    yield clock()


def packages(installed: dict[str, Distribution]) -> Iterator[Finding]:
    """Look at our distributions and what they require.

    Args:
        installed: Every distribution that is installed, by name.
    """
    own = {name: each for name, each in sorted(installed.items()) if name.startswith(PREFIX)}
    core = own[CORE].version if CORE in own else None
    for name, distribution in own.items():
        if core is not None and distribution.version != core:
            yield warning(
                "packages", name, f"{distribution.version}, and {CORE} is {core}: they are released together",
                f"pip install {name}=={core}",
            )  # fmt: skip
        else:
            yield Finding("packages", name, distribution.version)
    if (clash := name_clash()) is not None:
        yield problem("packages", "nexus", clash, "do what it says")
    seen: set[str] = set()
    for name, distribution in own.items():
        for line in distribution.requires or ():
            found = _NAME.match(line)
            required = _normal(found[0]) if found else ""
            if ";" in line or required in own or not required:  # what has a marker may not hold here
                continue
            if required not in installed:
                yield problem(
                    "packages", required, f"not installed, and {name} requires {line}", f"pip install '{line}'"
                )
            elif unmet_requirement([line], required, installed[required].version):
                version = installed[required].version
                yield problem("packages", required, f"{version}, and {name} requires {line}", f"pip install '{line}'")
            elif required not in seen:
                yield Finding("packages", required, installed[required].version)
            seen.add(required)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def limits() -> Iterator[Finding]:
    """Look at what the system lets the process have."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("limits", "processors", str(cpus))
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        raised = f"{FILES}" if hard == resource.RLIM_INFINITY else f"{min(hard, 65536)}"
        yield warning(
            "limits", "open files", f"{shown}: each connection takes one",
            f"ulimit -n {raised}, or LimitNOFILE= of the service, before the start",
        )  # fmt: skip
    else:
        yield Finding("limits", "open files", shown)
    if hasattr(resource, "RLIMIT_NPROC"):
        threads = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        yield Finding("limits", "threads", "unlimited" if threads == resource.RLIM_INFINITY else str(threads))


def clock(now: float | None = None) -> Finding:
    """Look at the clock.

    Args:
        now: Seconds since the epoch, in place of what it says.
    """
    now = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST:
        advice = "set the clock (NTP): tokens and sessions end by it"
        return problem("clock", "time", f"{shown}: it has not been set", advice)
    return Finding("clock", "time", shown)
