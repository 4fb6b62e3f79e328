"""``docs/reference/metrics.md``: the metrics of the core and of plugins, from where they are declared."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from marked_parts import replaced, table

NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
HEAD = ["metric", "kind", "labels", "meaning"]


def metrics(page: str) -> str:
    """Write the metrics of calls, of the platform and of plugins."""
    with TemporaryDirectory() as folder:
        calls, platform, of_plugins = asyncio.run(collected(Path(folder)))
    page = replaced(page, "metrics of calls", table(HEAD, rows(calls)))
    page = replaced(page, "metrics of the platform", table(HEAD, rows(platform)))
    found = [[*row, plugin] for plugin, each in sorted(of_plugins.items()) for row in rows(each)]
    return replaced(page, "metrics of plugins", table([*HEAD, "plugin"], found))


def rows(metrics: Iterable[Any]) -> list[list[str]]:
    """Return a row for each measurement or family of metrics."""
    return [
        [f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), _prose(each.description)]
        for each in metrics
    ]


def _prose(text: str) -> str:
    """Return a description with the names of options and label values as code."""
    return NAME.sub(r"`\g<0>`", text)


async def collected(folder: Path) -> tuple[list[Any], list[Any], dict[str, list[Any]]]:
    """Return the metrics of calls, of the platform and of each plugin, with every feature that has some switched on."""
    from nexus_metrics.process_metrics import process_families
    from nexus_metrics.registry_owner import registry_of

    from nexus_core import Nexus

    nexus = Nexus(
        disabled_plugins=["api", "cli", "mcp", "hypercorn", "kailash", "auth"], enable_monitoring=True, metrics_port=0,
        enable_caching=True, enable_circuit_breaker=True, redis_url="redis://127.0.0.1:1",
        audit_log=str(folder / "audit.jsonl"),
    )  # fmt: skip
    async with nexus:
        registry = registry_of(nexus)
        assert registry is not None
        of_plugins: dict[str, list[Any]] = {}
        for plugin, each in nexus.plugins.collect("nexus_register_measurements"):
            of_plugins.setdefault(plugin, []).append(each)
        calls = registry.calls.families()
        elsewhere = {each.name for group in (calls, process_families(), *of_plugins.values()) for each in group}
        platform = [each for each in registry.own_families() if each.name not in elsewhere]
    return calls, platform, of_plugins


FILES = {"docs/reference/metrics.md": metrics}
