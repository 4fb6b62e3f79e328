"""Python, packages, system limits, clock."""

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
"""Limit of open files below which a busy server may run out of them."""

EARLIEST = 1_735_689_600
"""The start of 2025: an earlier clock has never been set."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def environment() -> Iterator[Finding]:
    """Examine them."""
    yield Finding("python", "version", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding("python", "executable", f"{sys.executable}, on {platform.platform()}")
    installed: dict[str, Distribution] = {}
    for each in reversed([*distributions()]):
        try:
            installed[_normal(each.metadata["Name"] or "")] = each
            each.read_text("entry_points.txt")
        except UnicodeDecodeError as exc:
            place = str(getattr(each, "_path", "unknown location"))
            yield problem("packages", place, f"its metadata can't be read: {exc}", "remove it, or reinstall it")
    yield from packages(installed)
    yield from limits()
    yield clock()


def packages(installed: dict[str, Distribution]) -> Iterator[Finding]:
    """Examine the distributions of Nexus and their requirements.

    Args:
        installed: The installed distributions by name.
    """
    own = {name: each for name, each in sorted(installed.items()) if name.startswith(PREFIX)}
    core = own[CORE].version if CORE in own else None
    for name, distribution in own.items():
        if core is not None and distribution.version != core:
            yield warning(
                "packages", name, f"{distribution.version}, but {CORE} is {core}: versions must match",
                f"pip install {name}=={core}",
            )  # fmt: skip
        else:
            yield Finding("packages", name, distribution.version)
    if (clash := name_clash()) is not None:
        yield problem("packages", "nexus", clash, "follow the instructions in the message")
    seen: set[str] = set()
    for name, distribution in own.items():
        for line in distribution.requires or ():
            found = _NAME.match(line)
            required = _normal(found[0]) if found else ""
            if ";" in line or required in own or not required:  # a requirement with a marker may not apply
                continue
            if required not in installed:
                yield problem(
                    "packages", required, f"not installed, but {name} requires {line}", f"pip install '{line}'"
                )
            elif unmet_requirement([line], required, installed[required].version):
                version = installed[required].version
                yield problem("packages", required, f"{version}, but {name} requires {line}", f"pip install '{line}'")
            elif required not in seen:
                yield Finding("packages", required, installed[required].version)
            seen.add(required)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def limits() -> Iterator[Finding]:
    """Examine the limits of the process."""
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
            "limits", "open files", f"{shown}: each connection needs one",
            f"ulimit -n {raised}, or LimitNOFILE= in the systemd unit, before the start",
        )  # fmt: skip
    else:
        yield Finding("limits", "open files", shown)
    if hasattr(resource, "RLIMIT_NPROC"):
        threads = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        yield Finding("limits", "threads", "unlimited" if threads == resource.RLIM_INFINITY else str(threads))


def clock(now: float | None = None) -> Finding:
    """Examine the clock.

    Args:
        now: Seconds since the epoch; default: the current time.
    """
    now = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST:
        advice = "set the clock (NTP): tokens and sessions expire by it"
        return problem("clock", "time", f"{shown}: the clock is not set", advice)
    return Finding("clock", "time", shown)
