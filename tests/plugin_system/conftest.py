from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import textwrap
from importlib.metadata import distributions, entry_points
from pathlib import Path
from typing import Any

import pytest

from nexus_core import Nexus
from nexus_core.plugins import discovery

ROOT = Path(__file__).parents[2]
NUMBERS = itertools.count()
CORE = "nexus-hub-core>=0.1,<0.2"
HOOK = "@hookimpl\ndef nexus_register_services(nexus): return {}\n"
"""The least that a plugin is: one hook."""


class Site:
    """A directory of installed distributions, as an installer leaves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, code: str = "", *, distribution: str = "", requires: str = CORE, guard: str = "",
        attribute: str = "") -> str:  # fmt: skip
        """Install a distribution with one plugin, a module or an attribute of it; return the module's name."""
        distribution = distribution or f"nexus-{name}"
        package = f"{distribution.replace('-', '_')}_{next(NUMBERS)}"  # a module that hangs keeps its lock
        files = {
            f"{package}/__init__.py": "",
            f"{package}/plugin.py": "from nexus_core import hookimpl\n" + textwrap.dedent(code or HOOK),
        }
        info = f"{distribution.replace('-', '_')}-1.0.dist-info"
        files[f"{info}/METADATA"] = (
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\nRequires-Dist: {requires}\n"
        )
        guards = f"[nexus.guards]\n{guard} = {name}\n" if guard else ""
        files[f"{info}/entry_points.txt"] = (
            f"[nexus.plugins]\n{name} = {package}.plugin{attribute and ':' + attribute}\n{guards}"
        )
        files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
        for path, content in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
        return f"{package}.plugin"

    def python(self, *arguments: str, python: str = sys.executable, **environment: str) -> Any:
        """Run Python with the site on its path."""
        path = os.pathsep.join([str(self.folder), str(ROOT)])
        return subprocess.run(
            [python, *arguments],
            env={**os.environ, "PYTHONPATH": path, **environment},
            cwd=self.folder, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def records(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """Return what `nexus plugins` prints as JSON, by plugin."""
        done = self.python("-m", "nexus_core", "plugins", *arguments, "--json", **environment)
        return {record["name"]: record for record in json.loads(done.stdout)}


@pytest.fixture(name="clean_environment", autouse=True)
def clean_environment_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("NEXUS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(name="installed", scope="session")
def installed_fixture() -> list[str]:
    """Return the plugins that are installed beside those of a test."""
    return sorted({each.name for each in entry_points(group="nexus.plugins")})


@pytest.fixture(name="site")
def site_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: list[str]) -> Any:
    site = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site.folder))
    yield site
    for name, module in list(sys.modules.items()):
        if str(site.folder) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


@pytest.fixture(name="platform")
def platform_fixture(site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a Nexus where the test's own site is all that is installed."""
    monkeypatch.setattr(discovery, "distributions", lambda: distributions(path=[str(site.folder)]))

    def make(*plugins: object, disabled: tuple[str, ...] = (), **options: Any) -> Nexus:
        return Nexus(plugins=plugins, disabled_plugins=disabled, **options)

    return make


@pytest.fixture(name="make")
def make_fixture() -> Any:
    """Make a Nexus without installed plugins."""
    return lambda *plugins, **options: Nexus(discover=False, plugins=plugins, **options)
