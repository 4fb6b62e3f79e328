"""``docs/reference/routes.md``: the addresses, from the operations of the API's routes and the endpoints of others."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marked_parts import replaced, table

ROOT = Path(__file__).parents[2]
HEAD = ["address", "method", "port", "meaning", "answers", "permission"]


def routes(page: str) -> str:
    """Write the addresses of each plugin and its ports."""
    rows = {"api": [*api_rows()]} | {
        plugin: [row for cls in classes for each in cls.endpoints for row in _rows(each, _port(cls))]
        for plugin, classes in endpoint_classes().items()
    }
    parts = [f"### {plugin}\n\n{table(HEAD, each)}" for plugin, each in rows.items()]
    return replaced(page, "addresses", "\n\n".join(parts))


def _port(cls: type) -> str:
    """Return the option that sets the port of a channel, or of the channel that takes routes."""
    from nexus_api.channel import ApiChannel

    return getattr(cls, "port_option", ApiChannel.port_option)


def api_rows() -> Iterator[list[str]]:
    """Yield a row for each route of the API, the files of the documentation page apart."""
    from nexus_api.channel import every_route
    from nexus_api.execute import Execute
    from nexus_api.openapi import _operation
    from nexus_api.operations import DescribedRoute
    from nexus_api.settings import ApiSettings

    from nexus_core.testing import isolated_nexus

    nexus = isolated_nexus()
    nexus.register("name", lambda: None, {"description": "Run a workflow."})
    execute = Execute(nexus, 1.0)
    for route in every_route(nexus, ApiSettings(), execute):
        if route.path.startswith("/docs/"):
            continue
        if isinstance(route, DescribedRoute):
            for method, operation in route.described.items():
                yield _operation_row(route.path, method, operation)
        elif route.app is execute:
            yield _operation_row(route.path, "POST", _operation(nexus.workflows.get("name"), {}))
        else:
            yield from (row for each in route.app.endpoints for row in _rows(each, _port(type(route.app))))


def _operation_row(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    from nexus_api.operations import ON_EVERY_ROUTE

    general = {str(error.status) for error in ON_EVERY_ROUTE}
    answers = ", ".join(sorted(operation["responses"].keys() - general))
    return [f"`{path}`", method.upper(), f"`{_port(object)}`", operation["summary"], answers, ""]


def _rows(endpoint: Any, port: str) -> Iterator[list[str]]:
    answers, permission = ", ".join(map(str, endpoint.answers)), endpoint.permission
    guard = f"`{permission}`" if permission else ""
    for method in endpoint.methods:
        yield [f"`{endpoint.path}`", method, f"`{endpoint.port or port}`", endpoint.summary, answers, guard]


def endpoint_classes() -> dict[str, list[Any]]:
    """Return the classes with ``endpoints`` of each plugin but the API, which its own routes stand for."""
    found: dict[str, list[Any]] = {}
    for path in sorted(ROOT.glob("plugins/*/nexus_*/**/*.py")):
        plugin = path.relative_to(ROOT).parts[1]
        if plugin in ("api", "toolkit") or "endpoints = " not in path.read_text(encoding="utf-8"):
            continue
        name = ".".join(path.relative_to(ROOT / "plugins" / plugin).with_suffix("").parts)
        every = vars(importlib.import_module(name)).values()
        found.setdefault(plugin, []).extend(
            each for each in every if isinstance(each, type) and each.__module__ == name and "endpoints" in vars(each)
        )
    return found


FILES = {"docs/reference/routes.md": routes}
