"""Type stubs of the packages that import their names when these are first used: the names and where each is defined.

The list by hand is what the package itself reads: ``_HOMES`` of `nexus_core`, the arguments of ``names`` in ``nexus``.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEXUS = "plugins/platform/nexus"
NOTE = "# Written by `make generate`.\n\n"


def stub(homes: Mapping[str, str]) -> str:
    """Return a stub.

    Args:
        homes: The module of each name: ``package.module``, or ``package.module:Other`` if it is called Other there.
    """
    lines = []
    for name, home in homes.items():
        module, _, other = home.partition(":")
        lines.append(f"from {module} import {other or name} as {name}\n")
    exported = "".join(f'    "{name}",\n' for name in sorted(homes))
    return f"{NOTE}{''.join(sorted(lines))}\n__all__ = [\n{exported}]\n"


def core(_text: str) -> str:
    """Return the stub of `nexus_core`."""
    import nexus_core

    return stub({name: f"nexus_core.{module}" for module, names in nexus_core._HOMES.items() for name in names})


def part(path: Path, _text: str) -> str:
    """Return the stub of a module of ``nexus``, whose names are the arguments of ``names``."""
    calls = [each for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(each, ast.Call)]
    (call,) = (each for each in calls if ast.unparse(each.func) == "names")
    return stub({str(each.arg): ast.literal_eval(each.value) for each in call.keywords})


FILES = {
    "nexus_core/__init__.pyi": core,
    f"{NEXUS}/__init__.pyi": lambda _text: f"{NOTE}from nexus_core import *\n",
    **{
        f"{NEXUS}/{path.stem}.pyi": partial(part, path)
        for path in sorted((ROOT / NEXUS).glob("*.py"))
        if not path.stem.startswith("_")
    },
}
