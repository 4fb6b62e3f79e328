"""No module imports, even for types or inside a function, what imports it: neither in the core nor in a plugin."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "nexus_core", *sorted(path.parent for path in ROOT.glob("plugins/*/nexus*/__init__.py"))]
MAX_PACKAGES, MAX_MODULES = 12, 6
"""How many packages, and modules beside them, the core has at the top: what one can keep in mind."""


def modules_of(package: Path) -> dict[str, Path]:
    """Return the files of a package's modules, by their names."""
    found = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(package: Path) -> dict[str, set[str]]:
    """Return which modules of its own package each module imports, wherever in its text."""
    modules = modules_of(package)
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, file in modules.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                submodules = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [each if each in modules else node.module for each in submodules]
            elif isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            graph[name] |= {each for each in found if each in modules} - {name}
    return graph


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_modules_import_each_other_in_a_circle(package: Path) -> None:
    try:
        TopologicalSorter(imports_of(package)).prepare()
    except CycleError as exc:
        pytest.fail(f"a circle of imports: {' <- '.join(exc.args[1])}")


def test_a_circle_is_found_wherever_the_imports_are(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shop.two import Two")
    (package / "two.py").write_text("def late():\n    from shop import one")
    assert imports_of(package) == {"shop": set(), "shop.one": {"shop.two"}, "shop.two": {"shop.one"}}


def test_the_top_of_the_core_is_small() -> None:
    packages = [path for path in (ROOT / "nexus_core").iterdir() if (path / "__init__.py").exists()]
    modules = [path for path in (ROOT / "nexus_core").glob("*.py") if path.name != "__init__.py"]
    assert (len(packages) <= MAX_PACKAGES, len(modules) <= MAX_MODULES) == (True, True)
