"""Finds the nodes of Kailash's library by name.

Kailash registers a node when the module that defines it is imported, and importing ``kailash`` imports few of them.
Here the name leads to the module: the library's sources are searched for it, then those of installed distributions that
require Kailash, and only that module is imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from functools import cache
from pathlib import Path

from nexus_core.errors import ConfigurationError
from nexus_core.text import nearest, printable

_DEFINITION = re.compile(
    r"^@register_node\(\s*(?:(?:alias\s*=\s*)?[\"'](?P<alias>\w+)[\"'])?[^)]*\)\s*\n(?:@.*\n)*class (?P<name>\w+)",
    re.MULTILINE,
)

_REQUIREMENT = re.compile(r"kailash\s*($|[<>=!~\[;( ])")
_FOR_AI = re.compile(r"LLM|Agent|RAG|A2A|Kaizen|Prompt|Embedding|Semantic|Retriev")
"""What nodes for AI have in their names, which Kailash 2 has moved to a separate distribution."""

_EXTRA = "Install what most nodes need: pip install 'nexus-hub-kailash[nodes]'."


@cache
def node_modules() -> dict[str, str]:
    """Return the module of each node in Kailash's library, and of this plugin's own one, without importing any."""
    return {"DataProcessorNode": "nexus_kailash.processor"} | _nodes_of("kailash.nodes")


@cache
def companion_nodes() -> dict[str, str]:
    """Return the module of each node in the installed distributions that require Kailash, such as kailash-kaizen."""
    modules: dict[str, str] = {}
    for package, distributions in importlib.metadata.packages_distributions().items():
        if package != "kailash" and any(map(_requires_kailash, distributions)):
            modules = _nodes_of(package) | modules
    return modules


def import_node(name: str) -> bool:
    """Import the module that defines a node. Returns False when neither the library nor a companion has such a node.

    Raises:
        ConfigurationError: The module can't be imported, mostly because an optional dependency is not installed.
    """
    module = node_modules().get(name) or companion_nodes().get(name)
    if module is None:
        return False
    try:
        importlib.import_module(module)
    except Exception as exc:
        hint = f" {_EXTRA}" if module.startswith("kailash.") else ""
        reason = f"{type(exc).__name__}: {exc}"
        raise ConfigurationError(
            f'The node "{name}" needs the module {module}, which can\'t be imported: {reason}.{hint}'
        ) from exc
    return True


def require_node(name: str) -> None:
    """Ensure that Kailash can make nodes of a name.

    Raises:
        ConfigurationError: There is no such node; the message has the nearest one. Or it can't be imported.
    """
    from kailash.nodes.base import NodeRegistry  # type: ignore[import-untyped]

    registered = NodeRegistry.list_nodes()
    if name in registered or (import_node(name) and name in NodeRegistry.list_nodes()):
        return
    near = nearest(name, sorted({*registered, *node_modules(), *companion_nodes()}))
    hint = f' Did you mean "{near}"?' if near else ""
    if _FOR_AI.search(name) and not importlib.util.find_spec("kaizen"):
        hint += " Nodes for AI are in the distribution kailash-kaizen: pip install kailash-kaizen."
    raise ConfigurationError(f'Kailash has no node "{printable(name)}".{hint}')


def _requires_kailash(distribution: str) -> bool:
    requirements = importlib.metadata.requires(distribution) or ()
    return any(_REQUIREMENT.match(each) and "extra ==" not in each for each in requirements)


def _nodes_of(package: str) -> dict[str, str]:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return {}
    modules: dict[str, str] = {}
    for location in (spec.submodule_search_locations or ()) if spec else ():
        root = Path(location)
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join((package, *(part for part in parts if part != "__init__")))
            source = path.read_text(encoding="utf-8", errors="replace")
            if "@register_node" in source:  # far quicker than the pattern, and most files have none
                for found in _DEFINITION.finditer(source):
                    modules.setdefault(found["alias"] or found["name"], module)
    return modules
