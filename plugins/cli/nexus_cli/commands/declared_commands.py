"""The commands that installed plugins declare in their metadata, for help and completion. Imports no plugin.

A distribution declares ``NAME = "module:function"`` in the entry point group `GROUP`; the function's docstring, read
from the source file, says what the command does. Standard library only.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_core.plugins.discovery import GROUP as PLUGINS
from nexus_core.plugins.discovery import disabled_here, installed, is_name

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

GROUP = "nexus.commands"
PARSE_TRIES = 20


@dataclass(frozen=True, slots=True)
class DeclaredCommand:
    """A command as metadata declares it.

    Attributes:
        name: What is typed after ``nexus``.
        help: The first sentence of its docstring; empty if it has no docstring.
        plugin: The plugin of the same distribution.
    """

    name: str
    help: str
    plugin: str


def declared_commands() -> list[DeclaredCommand]:
    """Return the commands of installed plugins that are not disabled, sorted by name."""
    disabled = disabled_here()
    found: dict[str, DeclaredCommand] = {}
    for entry_point, distribution in installed(GROUP):
        plugin = _plugin(distribution)
        if plugin and plugin not in disabled and is_name(entry_point.name):
            found.setdefault(entry_point.name, DeclaredCommand(entry_point.name, _summary(entry_point), plugin))
    return sorted(found.values(), key=lambda each: each.name)


def _plugin(distribution: Distribution) -> str:
    return next((each.name for each in distribution.entry_points if each.group == PLUGINS), "")


def _summary(entry_point: EntryPoint) -> str:
    """Return the first sentence of a docstring without importing the module; empty where it can't be read."""
    try:
        source = _source(entry_point.module)
        node: ast.AST | None = _parsed(source.read_bytes()) if source else None
        for name in entry_point.attr.split("."):
            node = next((each for each in getattr(node, "body", ()) if getattr(each, "name", "") == name), None)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return ""
        line = (ast.get_docstring(node) or "").partition("\n")[0]
        return line.partition(". ")[0].removesuffix(".") + "." if line else ""
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""


def _parsed(source: bytes) -> ast.AST:
    """Parse a module. Python 3.11 counts the depth of all threads together, and may complain when several parse."""
    for _ in range(PARSE_TRIES):
        try:
            return ast.parse(source)
        except SystemError:
            continue
    return ast.parse(source)


def _source(module: str) -> Path | None:
    """Return a module's source file. The packages above it are not imported, as `importlib.util.find_spec` would."""
    path, parts = None, module.split(".")
    spec = None
    for number in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:number]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return Path(spec.origin) if spec is not None and spec.origin else None
