"""The package ``nexus``: every name of the guide, imported late, and nothing of its own."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import nexus
import pytest

import nexus_core

FOLDER = Path(__file__).parents[1]
MODULES = sorted(path.stem for path in (FOLDER / "nexus").glob("*.py") if not path.stem.startswith("_"))


def test_it_has_all_that_the_core_has() -> None:
    assert nexus.__all__ == nexus_core.__all__
    assert set(nexus_core.__all__) <= set(dir(nexus))
    for name in nexus.__all__:
        assert getattr(nexus, name) is getattr(nexus_core, name)
    with pytest.raises(AttributeError, match="module 'nexus' has no attribute 'Nexsus'"):
        _ = nexus.Nexsus


@pytest.mark.parametrize("name", MODULES)
def test_every_name_of_a_module_is_there(name: str) -> None:
    module = importlib.import_module(f"nexus.{name}")
    assert module.__all__
    assert dir(module) == sorted(module.__all__)
    for each in module.__all__:
        found = getattr(module, each)
        assert found.__module__.partition(".")[0] != "nexus", "it would have logic of its own"
    with pytest.raises(AttributeError, match=f"module 'nexus.{name}' has no attribute 'Nothing'"):
        _ = module.Nothing


def test_the_readme_lists_them() -> None:
    table = dict(re.findall(r"\| `nexus\.(\w+)` \| (.*) \|", (FOLDER / "README.md").read_text()))
    assert sorted(table) == MODULES
    for name, listed in table.items():
        assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(importlib.import_module(f"nexus.{name}").__all__)


def test_importing_it_imports_nothing_more_than_the_core_does() -> None:
    def modules(statement: str) -> set[str]:
        code = f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        return set(json.loads(done.stdout))

    assert modules("import nexus") - modules("import nexus_core") <= {"nexus"}
    every = "\n".join(f"import nexus.{name}" for name in MODULES)
    more = modules(every) - modules("import nexus_core")
    assert {name.partition(".")[0] for name in more} == {"nexus"}


def test_what_is_not_installed_is_named() -> None:
    code = "import sys; sys.modules['nexus_cache'] = None\nfrom nexus.cache import CacheManager"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install nexus-hub-cache" in done.stderr.splitlines()[-1]


def test_type_checkers_are_told_the_same_names() -> None:
    def told(package: object) -> list[str]:
        stub = Path(str(vars(package)["__file__"])).with_suffix(".pyi").read_text()
        return re.findall(r"^from .* import \w+ as (\w+)$", stub, re.MULTILINE)

    assert sorted(told(nexus_core)) == nexus_core.__all__
    for name in MODULES:
        module = importlib.import_module(f"nexus.{name}")
        assert sorted(told(module)) == module.__all__
