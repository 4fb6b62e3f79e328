"""Finds the nodes of Kailash's library by name.

Kailash registers a node when the module that defines it is imported, and importing ``kailash`` imports few of them.
Here the name leads to the module: the library's sources are searched for it, and only that module is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path

from nexus_core.errors import ConfigurationError
from nexus_core.schema.report import nearest, printable

_DEFINITION = re.compile(
    r"^@register_node\(\s*(?:(?:alias\s*=\s*)?[\"'](?P<alias>\w+)[\"'])?[^)]*\)\s*\n(?:@.*\n)*class (?P<name>\w+)",
    re.MULTILINE,
)


@cache
def node_modules() -> dict[str, str]:
    """Return the module of each node in Kailash's library, and of this plugin's own one, without importing any."""
    spec = importlib.util.find_spec("kailash.nodes")
    modules: dict[str, str] = {}
    for location in (spec.submodule_search_locations or ()) if spec else ():
        root = Path(location)
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join(("kailash.nodes", *(part for part in parts if part != "__init__")))
            source = path.read_text(encoding="utf-8", errors="replace")
            if "@register_node" in source:  # far quicker than the pattern, and most files have none
                for found in _DEFINITION.finditer(source):
                    modules.setdefault(found["alias"] or found["name"], module)
    modules.setdefault("DataProcessorNode", "nexus_kailash.processor")
    return modules


def import_node(name: str) -> bool:
    """Import the module that defines a node. Returns False when the library has no such node.

    Raises:
        ConfigurationError: The module can't be imported, mostly for want of one of Kailash's extras.
    """
    module = node_modules().get(name)
    if module is None:
        return False
    try:
        importlib.import_module(module)
    except Exception as exc:
        raise ConfigurationError(
            f'The node "{name}" needs the module {module}, which can\'t be imported: {type(exc).__name__}: {exc}'
        ) from exc
    return True


def require_node(name: str) -> None:
    """See to it that Kailash can make nodes of a name.

    Raises:
        ConfigurationError: There is no such node; the message has the nearest one. Or it can't be imported.
    """
    from kailash.nodes.base import NodeRegistry  # type: ignore[import-untyped]

    registered = NodeRegistry.list_nodes()
    if name in registered or (import_node(name) and name in NodeRegistry.list_nodes()):
        return
    near = nearest(name, sorted({*registered, *node_modules()}))
    hint = f' Did you mean "{near}"?' if near else ""
    raise ConfigurationError(f'Kailash has no node "{printable(name)}".{hint}')


def complete_node_registry() -> None:
    """Let ``NodeRegistry.get`` import the node that is asked for, so that ``WorkflowBuilder.build()`` finds it too.

    The registry is one for the whole process; doing this twice changes nothing.
    """
    from kailash.nodes.base import NodeRegistry
    from kailash.sdk_exceptions import NodeConfigurationError  # type: ignore[import-untyped]

    registered_only = NodeRegistry.get
    if getattr(registered_only, "imports_nodes", False):
        return

    def get(cls: type[NodeRegistry], node_name: str) -> object:
        try:
            return registered_only(node_name)
        except NodeConfigurationError:
            try:
                if not import_node(node_name):
                    raise
            except ConfigurationError as exc:
                raise NodeConfigurationError(str(exc)) from exc
            return registered_only(node_name)

    get.imports_nodes = True  # type: ignore[attr-defined]
    NodeRegistry.get = classmethod(get)
